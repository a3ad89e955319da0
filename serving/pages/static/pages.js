// On every page: times in the viewer's own zone, and ages that grow. Without scripts both are there, in UTC and as of the page.
"use strict";
const Vigil = (() => {
  const words = document.body.dataset;
  const forms = {
    time: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
    date: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
    day: { day: "numeric", month: "short" },
  };
  const write = (time, form) => new Intl.DateTimeFormat(document.documentElement.lang, forms[form]).format(time);
  const localise = (root) => {
    for (const axis of root.querySelectorAll("svg.axis")) { // of a chart: a day is told where it begins
      let told = "";
      for (const text of axis.querySelectorAll("text[data-time]")) {
        const time = new Date(text.dataset.time), day = write(time, "day"), isOfDays = "days" in axis.dataset;
        text.textContent = isOfDays ? day : write(time, "time");
        if (!isOfDays) text.nextElementSibling.textContent = day === told ? "" : day;
        told = day;
      }
    }
    for (const link of root.querySelectorAll("a[data-zone]")) { // what is printed has the viewer's zone
      const url = new URL(link.href);
      url.searchParams.set("zone", Intl.DateTimeFormat().resolvedOptions().timeZone);
      link.href = url;
    }
    for (const element of root.querySelectorAll("time[datetime]")) {
      const time = new Date(element.dateTime);
      const isToday = time.toDateString() === new Date().toDateString();
      element.textContent = write(time, element.dataset.form === "time" && isToday ? "time" : "date");
    }
  };
  const age = (milliseconds) => {
    const minutes = Math.round(milliseconds / 60000);
    if (minutes < 1) return words.now;
    if (minutes < 120) return words.minutes.replace("#", minutes);
    const hours = Math.round(minutes / 60);
    return hours < 48 ? words.hours.replace("#", hours) : words.days.replace("#", Math.round(hours / 24));
  };
  const grow = (root) => {
    for (const element of root.querySelectorAll("[data-since]")) {
      element.textContent = age(Date.now() - Date.parse(element.dataset.since));
    }
  };
  const show = (root) => { localise(root); grow(root); };
  show(document);
  setInterval(() => grow(document), 20000);
  return { show, localise, write };
})();
