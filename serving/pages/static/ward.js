// The page of a ward stays current: rows come rendered from the server. The page says so when it is not live.
"use strict";
(() => {
  const page = document.getElementById("ward");
  const list = document.getElementById("patients");
  const words = page.dataset;
  const SILENT = 12000; // ms without a sign, which comes every 5 s
  const STILL = 2000; // ms after which a pointer that does not move is at rest
  const HOLD = 10000; // ms for which rows stay where they are while somebody is about to act

  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  };

  let isDown = false; // a pointer is
  let pressed = null; // the control below it
  let movedAt = -Infinity;
  const note = (event) => {
    movedAt = Date.now();
    isDown = event.type === "pointerdown" || (event.type === "pointermove" && event.buttons > 0);
    if (!isDown) pressed = null;
    if (event.type === "pointerdown") pressed = event.target.closest("a, button, select, summary");
  };
  for (const kind of ["pointermove", "pointerdown", "pointerup", "pointercancel", "scroll"]) window.addEventListener(kind, note);

  const isInUse = (part) =>
    part.contains(document.activeElement) || part.contains(pressed) || part.matches("details[open]") || part.querySelector("details[open]");

  // Replaces the parts of a row except those in use, which stay in the page: moving them would take their focus.
  const replaceParts = (old, row) => {
    old.className = row.className;
    const kept = [...old.children].filter(isInUse);
    for (const part of [...old.children]) if (!kept.includes(part)) part.remove();
    for (const part of [...row.children]) {
      const same = kept.findIndex((one) => one.tagName === part.tagName && one.classList[0] === part.classList[0]);
      if (same === -1) { old.insertBefore(part, kept[0] || null); continue; }
      if (!kept[same].matches("form, details")) replaceParts(kept[same], part);
      kept.splice(0, same + 1);
    }
  };
  const waiting = new Map(); // rows of which a part is in use, as the server has them by now
  const replaceRow = (old, html) => {
    const row = parse(html);
    if (isInUse(old)) { waiting.set(row.id, html); replaceParts(old, row); Vigil.show(old); return old; }
    waiting.delete(row.id);
    if (old.classList.contains("changed")) row.classList.add("changed");
    old.replaceWith(row);
    Vigil.show(row);
    return row;
  };

  // The rows of a new order that are in this order already, as many as there can be (the longest increasing subsequence):
  // they stay, since to move a row costs a layout.
  const inOrder = (target) => {
    const places = new Map([...list.children].map((row, place) => [row, place]));
    const ends = []; // of the best sequence of each length
    const before = [];
    target.forEach((row, number) => {
      let length = ends.findIndex((end) => places.get(target[end]) > places.get(row));
      if (length === -1) length = ends.length;
      before[number] = ends[length - 1] ?? -1;
      ends[length] = number;
    });
    const kept = new Set();
    for (let number = ends.at(-1) ?? -1; number >= 0; number = before[number]) kept.add(target[number]);
    return kept;
  };

  // The order of the rows, and the line below those who can be seen, as the server said last.
  let order = [];
  let visits = null;
  let heldSince = null;
  const arrange = () => {
    const wanted = order.map((id) => document.getElementById(`row-${id}`)).filter(Boolean);
    const cut = document.getElementById("cut");
    if (cut && visits) wanted.splice(visits.place, 0, cut);
    const present = [...list.children];
    if (wanted.length === present.length && wanted.every((row, place) => row === present[place])) { heldSince = null; return; }
    const isPointed = Date.now() - movedAt < STILL;
    heldSince ??= Date.now();
    if ((isDown || isPointed || present.some(isInUse)) && Date.now() - heldSince < HOLD) return;
    heldSince = null;
    for (const row of present) if (!wanted.includes(row)) row.remove();
    const isFixed = (row) => isInUse(row) || (isPointed && row.matches(":hover"));
    const fixed = [...list.children].map((row, place) => [place, row]).filter(([, row]) => row !== cut && isFixed(row));
    const target = wanted.filter((row) => !fixed.some(([, one]) => one === row));
    for (const [place, row] of fixed) target.splice(place, 0, row);
    const kept = fixed.length ? new Set(fixed.map(([, row]) => row)) : inOrder(target);
    for (let place = target.length - 1, next = null; place >= 0; next = target[place], place -= 1) {
      const row = target[place];
      if (row.nextElementSibling !== next && !kept.has(row)) list.insertBefore(row, next);
    }
  };
  setInterval(() => {
    for (const [id, html] of waiting) {
      const row = document.getElementById(id);
      if (!row) waiting.delete(id); else if (!isInUse(row)) replaceRow(row, html);
    }
    arrange();
  }, 500);

  let shownHead = "";
  let shownCut = "";
  const take = (news) => {
    Vigil.setClock(news.at);
    for (const row of list.querySelectorAll(".changed")) row.classList.remove("changed");
    for (const [id, html] of Object.entries(news.rows)) {
      const old = document.getElementById(`row-${id}`);
      let row = null;
      if (old) row = replaceRow(old, html); else { row = parse(html); list.append(row); Vigil.show(row); }
      if (!news.all) row.classList.add("changed"); // marked until the next news
    }
    ({ order, visits } = news);
    const cut = document.getElementById("cut");
    if (visits && (!cut || shownCut !== visits.html)) {
      cut?.remove();
      list.insertBefore(parse(shownCut = visits.html), list.children[visits.place] || null);
    }
    arrange();
    const head = document.getElementById("head");
    if (shownHead !== news.head) { head.innerHTML = shownHead = news.head; Vigil.show(head); }
    if (news.sounds) ring(ALARM);
  };

  const { heard, lost } = Vigil.watchLive(SILENT, () => ring(LOST));
  const listen = () => {
    const query = new URLSearchParams({ after: words.after });
    if (words.visits !== undefined) query.set("visits", words.visits);
    const source = new EventSource(`${words.live}?${query}`);
    source.addEventListener("sign", (event) => { heard(); Vigil.setClock(JSON.parse(event.data).at); });
    source.addEventListener("rows", (event) => {
      heard();
      words.after = event.lastEventId;
      take(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return;
      lost(); // the browser gave up: the session has ended, or the server is away
      Vigil.checkSession();
      setTimeout(listen, 5000);
    });
  };

  // Sound is the viewer's choice, and made by the browser: two short tones for an alarm, one that is low and long for a
  // connection that is lost. A browser may suspend it, so the button shows what is so.
  const ALARM = [[0, 0.2, 880], [0.25, 0.2, 660]]; // start and length in seconds, pitch
  const LOST = [[0, 0.9, 220]];
  const button = document.getElementById("sound");
  let audio = null;
  const isOn = () => audio?.state === "running";
  const ring = async (tones) => {
    if (!audio) return;
    const asked = Date.now();
    await audio.resume();
    if (!isOn() || Date.now() - asked > 5000) return; // a tone that comes late says nothing
    for (const [start, length, pitch] of tones) {
      const tone = audio.createOscillator();
      const volume = audio.createGain();
      tone.frequency.value = pitch;
      volume.gain.value = 0.2;
      tone.connect(volume).connect(audio.destination);
      tone.start(audio.currentTime + start);
      tone.stop(audio.currentTime + start + length);
    }
  };
  const showSound = () => {
    button.setAttribute("aria-pressed", String(isOn()));
    button.textContent = isOn() ? words.wordSoundOff : words.wordSoundOn;
  };
  button.hidden = !window.AudioContext;
  button.addEventListener("click", () => {
    if (isOn()) {
      audio.close();
      audio = null;
    } else {
      if (!audio) { audio = new AudioContext(); audio.addEventListener("statechange", showSound); }
      ring(ALARM);
    }
    showSound();
  });
  listen();

  // Acting on an alarm does not leave the page; the row comes back as the server has it.
  list.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const content = new URLSearchParams(new FormData(form));
    if (event.submitter) content.set(event.submitter.name, event.submitter.value);
    form.querySelector("[role=alert]")?.remove();
    for (const element of form.elements) element.disabled = true;
    let answer = null;
    try { answer = await fetch(form.getAttribute("action"), { // form.action is its button of that name
         method: "POST", body: content, redirect: "manual" }); } catch { answer = null; }
    if (answer?.status === 401) { Vigil.leave(); return; }
    if (answer && (answer.ok || answer.type === "opaqueredirect")) {
      document.activeElement?.blur();
      form.closest("details")?.removeAttribute("open");
      return;
    }
    for (const element of form.elements) element.disabled = false;
    event.submitter?.focus();
    const problem = document.createElement("strong");
    problem.setAttribute("role", "alert");
    problem.textContent = answer?.status === 409 ? words.wordDone : words.wordFailed;
    form.append(problem);
  });
})();
