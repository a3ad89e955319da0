// The page of a ward stays current: rows come rendered from the server. The page says so when it is not live.
"use strict";
(() => {
  const page = document.getElementById("ward");
  const list = document.getElementById("patients");
  const state = document.getElementById("live");
  const words = page.dataset;
  const SILENT = 12000; // ms without a sign, which comes every 5 s
  let heard = Date.now();
  let live = false;

  const tell = (isLive) => {
    if (isLive === live && isLive) return;
    live = isLive;
    document.body.classList.toggle("lost", !isLive);
    state.className = isLive ? "live on" : "live off";
    state.textContent = isLive ? words.wordLive : `${words.wordLost}: ${words.wordSince} `;
    if (!isLive) {
      const time = document.createElement("time");
      time.dateTime = new Date(heard).toISOString();
      time.title = time.dateTime;
      time.dataset.form = "time";
      state.append(time, `. ${words.wordAgain}.`);
      Vigil.localise(state);
    }
  };

  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  };
  const isInUse = (row) => row.contains(document.activeElement) || row.querySelector("details[open]");

  let shownHead = "";
  const take = (news) => {
    for (const row of list.querySelectorAll(".changed")) row.classList.remove("changed");
    for (const [id, html] of Object.entries(news.rows)) {
      const row = parse(html);
      const old = document.getElementById(row.id);
      if (old && isInUse(old)) continue; // somebody is about to act on it: it is replaced next time
      if (old) old.replaceWith(row); else list.append(row);
      Vigil.show(row);
      if (!news.all) row.classList.add("changed"); // marked until the next news
    }
    const wanted = news.order.map((id) => document.getElementById(`row-${id}`)).filter(Boolean);
    const cut = document.getElementById("cut");
    if (cut) wanted.splice(Number(words.visits), 0, cut);
    for (const row of [...list.children]) if (!wanted.includes(row)) row.remove();
    wanted.forEach((row, place) => { if (list.children[place] !== row) list.insertBefore(row, list.children[place] || null); });
    const head = document.getElementById("head");
    if (shownHead !== news.head) { head.innerHTML = shownHead = news.head; Vigil.show(head); }
    if (news.sounds) ring();
  };

  const listen = () => {
    const source = new EventSource(`${words.live}?after=${words.after}`);
    const note = () => { heard = Date.now(); tell(true); };
    source.addEventListener("sign", note);
    source.addEventListener("rows", (event) => {
      note();
      words.after = event.lastEventId;
      take(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return;
      tell(false); // the browser gave up: the session has ended, or the server is away
      fetch("/login/session").then((answer) => { if (answer.status === 401) location.reload(); }, () => {});
      setTimeout(listen, 5000);
    });
  };
  setInterval(() => { if (Date.now() - heard > SILENT) tell(false); }, 1000);
  listen();

  // Sound is the viewer's choice, and made by the browser: two short tones.
  const button = document.getElementById("sound");
  let audio = null;
  const ring = () => {
    if (!audio) return;
    for (const [start, pitch] of [[0, 880], [0.25, 660]]) {
      const tone = audio.createOscillator();
      const volume = audio.createGain();
      tone.frequency.value = pitch;
      volume.gain.value = 0.2;
      tone.connect(volume).connect(audio.destination);
      tone.start(audio.currentTime + start);
      tone.stop(audio.currentTime + start + 0.2);
    }
  };
  button.hidden = !window.AudioContext;
  button.addEventListener("click", () => {
    if (audio) { audio.close(); audio = null; } else { audio = new AudioContext(); ring(); }
    button.setAttribute("aria-pressed", String(audio !== null));
    button.textContent = audio ? words.wordSoundOff : words.wordSoundOn;
  });

  // Acting on an alarm does not leave the page; the row comes back as the server has it.
  list.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const content = new URLSearchParams(new FormData(form));
    if (event.submitter) content.set(event.submitter.name, event.submitter.value);
    for (const element of form.elements) element.disabled = true;
    let answer = null;
    try { answer = await fetch(form.getAttribute("action"), { // form.action is its button of that name
         method: "POST", body: content, redirect: "manual" }); } catch { answer = null; }
    if (answer && (answer.ok || answer.type === "opaqueredirect")) {
      document.activeElement?.blur();
      form.closest("details")?.removeAttribute("open");
      return;
    }
    for (const element of form.elements) element.disabled = false;
    const problem = document.createElement("strong");
    problem.setAttribute("role", "alert");
    problem.textContent = words.wordFailed;
    form.append(problem);
  });
})();
