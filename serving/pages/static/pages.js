// On every page: times in the viewer's own zone, and ages that grow. Without scripts both are there, in UTC and as of the page.
"use strict";
const Vigil = (() => {
  const words = document.body.dataset;
  const forms = {
    time: { hour: "2-digit", minute: "2-digit" },
    date: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
  };
  const localise = (root) => {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const time = new Date(element.dateTime);
      const isToday = time.toDateString() === new Date().toDateString();
      const form = element.dataset.form === "time" && isToday ? forms.time : forms.date;
      element.textContent = new Intl.DateTimeFormat(document.documentElement.lang, form).format(time);
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
  return { show, localise };
})();
