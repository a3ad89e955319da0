// The page of a patient: what a pointer finds on the charts, zoom by dragging, and news every half minute.
"use strict";
(() => {
  const page = document.getElementById("patient");
  const tip = document.getElementById("tip");
  const RENEW = 30000; // ms, and after a try that failed:
  const RETRY = 10000;
  const SILENT = 60000; // without a renewal, after which the page says that it is not live
  let drag = null;

  const span = () => {
    const charts = document.getElementById("charts");
    return charts ? [Number(charts.dataset.begin), Number(charts.dataset.end)] : null;
  };
  const timeAt = (share) => {
    const [since, until] = span();
    return new Date((since + share * (until - since)) / 1000);
  };
  const shareOf = (chart, event) => {
    const box = chart.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const points = (chart) => chart.points ??= JSON.parse(chart.dataset.points);

  // A line at the same time in every chart, and the nearest value of the one below the pointer.
  const line = (share) => {
    for (const chart of page.querySelectorAll("svg.chart")) {
      let cursor = chart.querySelector("line.cursor");
      if (!cursor) {
        cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
        cursor.setAttribute("class", "cursor");
        cursor.setAttribute("y1", "0");
        cursor.setAttribute("y2", "100%");
        chart.append(cursor);
      }
      cursor.setAttribute("x1", `${100 * share}%`);
      cursor.setAttribute("x2", `${100 * share}%`);
      cursor.setAttribute("visibility", share === null ? "hidden" : "visible");
    }
  };
  page.addEventListener("pointermove", (event) => {
    const chart = event.target.closest("svg.chart");
    if (!chart || !span()) { line(null); tip.hidden = true; return; }
    const share = shareOf(chart, event);
    line(share);
    const found = points(chart).reduce((best, one) => (best === null || Math.abs(one[0] - 100 * share) < Math.abs(best[0] - 100 * share) ? one : best), null);
    if (!found) return;
    tip.textContent = `${Vigil.write(timeAt(found[0] / 100), "date")}: ${found[2]}`;
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 14}px`;
    if (!drag || event.pointerId !== drag.pointer) return;
    drag.box.setAttribute("x", `${100 * Math.min(drag.share, share)}%`);
    drag.box.setAttribute("width", `${100 * Math.abs(drag.share - share)}%`);
  });
  page.addEventListener("pointerleave", () => { line(null); tip.hidden = true; });
  page.addEventListener("pointerdown", (event) => {
    const chart = event.target.closest("svg.chart");
    if (!chart || !span() || event.button || !event.isPrimary) return;
    event.preventDefault();
    drag?.box.remove();
    const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    box.setAttribute("class", "zoom");
    box.setAttribute("height", "100%");
    chart.append(box);
    drag = { chart, share: shareOf(chart, event), box, pointer: event.pointerId };
  });
  const endDrag = (event) => {
    if (event.pointerId !== drag?.pointer) return null;
    const ended = drag;
    drag.box.remove();
    drag = null;
    return ended;
  };
  window.addEventListener("pointercancel", endDrag); // a finger that scrolls the page ends so
  window.addEventListener("pointerup", (event) => {
    const ended = endDrag(event);
    if (!ended) return;
    const end = shareOf(ended.chart, event);
    if (Math.abs(end - ended.share) < 0.01) return;
    const [from, to] = [ended.share, end].sort((a, b) => a - b).map((each) => timeAt(each).toISOString());
    location.search = new URLSearchParams({ since: from, until: to });
  });

  // What is shown is replaced as a whole. The focus stays where it was, and lists of marks stay open.
  const keyOf = (element) => element.id || element.getAttribute("href");
  const replace = (html) => {
    const focused = page.contains(document.activeElement) ? keyOf(document.activeElement) : null;
    const open = [...page.querySelectorAll("details.marks[open]")].map((list) => list.dataset.of);
    page.innerHTML = html;
    for (const list of page.querySelectorAll("details.marks")) list.open = open.includes(list.dataset.of);
    Vigil.show(page);
    if (focused) [...page.querySelectorAll("a, [id]")].find((each) => keyOf(each) === focused)?.focus({ preventScroll: true });
  };
  const renew = async () => {
    if (drag || document.hidden) return false;
    try { // without text/html among what is accepted, so that the end of the session is 401 and no redirect
      const options = { headers: { Accept: "*/*" }, signal: AbortSignal.timeout(20000) };
      const answer = await fetch(page.dataset.live + location.search, options);
      if (answer.status === 401) Vigil.leave();
      if (!answer.ok) return false;
      const html = await answer.text();
      if (drag) return false;
      Vigil.setClock(answer.headers.get("Date"));
      replace(html);
      return true;
    } catch { return false; }
  };
  if (page.dataset.live) { // a time that was chosen stays as it is
    const { heard } = Vigil.watchLive(SILENT);
    let waiting = null;
    const again = async () => {
      clearTimeout(waiting);
      const isNew = await renew();
      if (isNew) heard();
      clearTimeout(waiting);
      waiting = setTimeout(again, isNew ? RENEW : RETRY);
    };
    heard();
    waiting = setTimeout(again, RENEW);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) again(); });
  }
})();
