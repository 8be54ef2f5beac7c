"use strict";
// One clock for each stretch: every strip shows its latest frame, every curve its mark, at the same moment.
const SLOWER = 2; // clips of a second can be followed at half speed
const numbers = (text) => text.split(" ").filter(Boolean).map(Number);
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

function makePlayer(box) {
  const strips = [...box.querySelectorAll(".strip")].map((element) => ({
    element, image: element.querySelector("img"), times: numbers(element.dataset.times),
  }));
  const marks = [...box.querySelectorAll(".cursor")];
  const times = numbers(box.dataset.times);
  const [button, slider, label] = ["button", "input", "output"].map((name) => box.querySelector(name));
  const name = button.getAttribute("aria-label").replace(/^Play: /, "");
  let place = 0;
  let timer = null;

  function show(i) {
    place = i;
    const now = times[i];
    for (const { element, image, times: own } of strips) {
      const seen = own.filter((t) => t <= now + 1e-9).length;
      image.style.transform = `translateX(${(-100 * Math.max(0, seen - 1)) / own.length}%)`;
      element.classList.toggle("waiting", seen === 0);
    }
    for (const mark of marks) {
      const { x0, x1, left, right } = mark.dataset;
      const share = Math.min(1, Math.max(0, (now - x0) / (x1 - x0)));
      const x = Number(left) + share * (right - left);
      mark.setAttribute("x1", x);
      mark.setAttribute("x2", x);
    }
    slider.value = i;
    label.textContent = `${now >= 0 ? "+" : "−"}${Math.abs(now).toFixed(2)} s`;
    slider.setAttribute("aria-valuetext", label.textContent);
  }

  function step() {
    const next = (place + 1) % times.length;
    const wait = next === 0 ? 900 : SLOWER * 1000 * (times[next] - times[place]);
    timer = setTimeout(() => { show(next); step(); }, Math.min(900, Math.max(50, wait)));
  }

  function play(on) {
    clearTimeout(timer);
    timer = null;
    button.textContent = on ? "Pause" : "Play";
    button.setAttribute("aria-label", `${on ? "Pause" : "Play"}: ${name}`);
    if (on) step();
  }

  let wanted = !calm;
  button.addEventListener("click", () => { wanted = timer === null; play(wanted); });
  slider.addEventListener("input", () => { wanted = false; play(false); show(Number(slider.value)); });
  // At rest everything that was asked for is in sight.
  const last = Math.max(0, ...strips.map((strip) => strip.times[0]));
  show(Math.max(0, times.findIndex((t) => t >= last - 1e-9)));
  // What is out of sight stands still: a page with many clips would keep a slow machine busy.
  new IntersectionObserver((seen) => play(wanted && seen[0].isIntersecting)).observe(box);
  return { stop: () => { wanted = false; play(false); } };
}

const players = [...document.querySelectorAll(".player")].map(makePlayer);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") players.forEach((player) => player.stop());
});
