// On every page: times in the viewer's own zone, ages that grow, whether the page is live, and the automatic logoff.
// Without scripts times and ages are there, in UTC and as of the page.
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
  let ahead = Date.parse(words.at) - Date.now(); // ms, of the server's clock: ages are told by it
  const setClock = (at) => { if (at) ahead = Date.parse(at) - Date.now(); };
  const age = (milliseconds) => { // as Words.age
    const hours = milliseconds / 3600000;
    const minutes = Math.round(60 * hours);
    if (minutes < 1) return words.now;
    if (minutes < 120) return words.minutes.replace("#", minutes);
    return hours < 48 ? words.hours.replace("#", Math.round(hours)) : words.days.replace("#", Math.round(hours / 24));
  };
  const grow = (root) => {
    for (const element of root.querySelectorAll("[data-since]")) {
      const text = age(Date.now() + ahead - Date.parse(element.dataset.since));
      const whole = element.dataset.text ? element.dataset.text.replace("#", text) : text;
      if (element.textContent !== whole) element.textContent = whole;
    }
  };
  const show = (root) => { localise(root); grow(root); };
  show(document);
  setInterval(() => grow(document), 20000);
  window.addEventListener("beforeprint", () => {
    for (const time of document.querySelectorAll("#printed time")) time.dateTime = time.title = new Date().toISOString();
    show(document);
  });

  // A session that has ended: the page leaves, and does not come back by itself, as it would with single sign-on.
  const leave = () => {
    const next = new URLSearchParams({ next: location.pathname + location.search });
    location.replace(`/login/ended?${next}`);
  };
  const checkSession = async () => {
    try {
      const answer = await fetch("/login/session", { signal: AbortSignal.timeout(20000) });
      if (answer.status === 401) leave();
      setClock(answer.headers.get("Date"));
    } catch { /* the server is away: the next try may reach it */ }
  };
  if ("session" in words) {
    setInterval(checkSession, 60000);
    const look = () => { if (!document.hidden) checkSession(); };
    document.addEventListener("visibilitychange", look); // timers of a hidden page may have stood still
    window.addEventListener("pageshow", (event) => { if (event.persisted) look(); });
  }

  // Says whether the page is live: not, once nothing was heard for so long. ``onLost`` is called when that begins.
  const watchLive = (silent, onLost = () => {}) => {
    const state = document.getElementById("live");
    let heard = Date.now();
    let live = null;
    const tell = (isLive) => {
      if (isLive === live) return; // else screen readers would say it again and again
      live = isLive;
      document.body.classList.toggle("lost", !isLive);
      state.className = isLive ? "live on" : "live off";
      state.textContent = isLive ? state.dataset.wordLive : `${state.dataset.wordLost}: ${state.dataset.wordSince} `;
      if (isLive) return;
      const time = document.createElement("time");
      time.dateTime = time.title = new Date(heard).toISOString();
      time.dataset.form = "time";
      state.append(time, `. ${state.dataset.wordAgain}.`);
      localise(state);
      onLost();
    };
    setInterval(() => { if (Date.now() - heard > silent) tell(false); }, 1000);
    return { heard: () => { heard = Date.now(); tell(true); }, lost: () => tell(false) };
  };
  return { show, write, setClock, leave, checkSession, watchLive };
})();
