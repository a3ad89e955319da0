// The page of a patient: what a pointer finds on the charts, zoom by dragging, and news every half minute.
"use strict";
(() => {
  const page = document.getElementById("patient");
  const tip = document.getElementById("tip");
  const RENEW = 30000; // ms
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
    if (drag) drag.box.setAttribute("x", `${100 * Math.min(drag.share, share)}%`), drag.box.setAttribute("width", `${100 * Math.abs(drag.share - share)}%`);
  });
  page.addEventListener("pointerleave", () => { line(null); tip.hidden = true; });
  page.addEventListener("pointerdown", (event) => {
    const chart = event.target.closest("svg.chart");
    if (!chart || !span() || event.button) return;
    event.preventDefault();
    const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    box.setAttribute("class", "zoom");
    box.setAttribute("height", "100%");
    chart.append(box);
    drag = { chart, share: shareOf(chart, event), box };
  });
  window.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { chart, share, box } = drag;
    drag = null;
    box.remove();
    const end = shareOf(chart, event);
    if (Math.abs(end - share) < 0.01) return;
    const [from, to] = [share, end].sort((a, b) => a - b).map((each) => timeAt(each).toISOString());
    location.search = new URLSearchParams({ since: from, until: to });
  });

  const renew = async () => {
    if (drag || document.hidden || page.querySelector("details[open]:not(.marks)")) return;
    try {
      const answer = await fetch(page.dataset.live + location.search, { headers: { Accept: "text/html" } });
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok) return;
      const text = await answer.text();
      const open = [...page.querySelectorAll("details.marks[open]")].map((list) => list.dataset.of);
      page.innerHTML = text;
      for (const list of page.querySelectorAll("details.marks")) list.open = open.includes(list.dataset.of);
      Vigil.show(page);
    } catch { /* the next try may reach the server; the age of the data is on the page */ }
  };
  if (!location.search.includes("until")) setInterval(renew, RENEW);
})();
