"use strict";
// One clock for each window: every strip shows its latest frame, every curve its mark, at the same moment.
const numbers = (text) => text.split(" ").filter(Boolean).map(Number);

function makePlayer(box) {
  const strips = [...box.querySelectorAll(".strip")].map((element) => ({
    element, image: element.querySelector("img"), times: numbers(element.dataset.times),
  }));
  const marks = [...box.querySelectorAll(".cursor")];
  const all = [...numbers(box.dataset.times), ...strips.flatMap((strip) => strip.times)];
  const times = [...new Set(all)].sort((a, b) => a - b);
  const [button, slider, label] = ["button", "input", "output"].map((name) => box.querySelector(name));
  let place = 0;
  let timer = null;
  slider.max = times.length - 1;

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
  }

  function step() {
    const next = (place + 1) % times.length;
    const wait = next === 0 ? 900 : 1000 * (times[next] - times[place]);
    timer = setTimeout(() => { show(next); step(); }, Math.min(900, Math.max(60, wait)));
  }

  function play(on) {
    clearTimeout(timer);
    timer = null;
    button.textContent = on ? "Pause" : "Play";
    if (on) step();
  }

  button.addEventListener("click", () => play(timer === null));
  slider.addEventListener("input", () => { play(false); show(Number(slider.value)); });
  show(0);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play(true);
}

document.querySelectorAll(".player").forEach(makePlayer);
