"use strict";

/** Reads a chart's values at the pointer, or step by step with the arrow keys. */
function addReading(area) {
  const {places, x, names, words} = JSON.parse(area.dataset.values);
  const cursor = area.querySelector(".cursor"), figure = area.closest("figure"), output = figure.querySelector("output");
  const label = figure.querySelector(".x-label").textContent;
  let at = -1;
  function show(next) {
    at = Math.min(places.length - 1, Math.max(0, next));
    cursor.removeAttribute("hidden");
    cursor.setAttribute("d", `M${places[at]},0V100`);
    const told = names.map((name, i) => (words[i][at] ? `${name}: ${words[i][at]}` : "")).filter(Boolean);
    output.textContent = `${label} ${x[at]}: ${told.join("; ")}`;
  }
  area.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect(), share = (100 * (event.clientX - box.left)) / box.width;
    const distances = places.map((place) => Math.abs(place - share));
    show(distances.indexOf(Math.min(...distances)));
  });
  area.addEventListener("keydown", (event) => {
    const next = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: places.length - 1}[event.key];
    if (next === undefined) return;
    show(next);
    event.preventDefault();
  });
}

/** Plays two episodes of a game; where less motion is preferred, only when asked to. */
function addScreens(figure) {
  const {width, height, milliseconds, colours, episodes} = JSON.parse(figure.dataset.screens);
  const canvases = figure.querySelectorAll("canvas");
  const button = figure.querySelector("button"), moment = figure.querySelector("input");
  const length = Math.max(...episodes.map(({frames}) => frames.length));
  let isPlaying = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  moment.max = length - 1;
  function draw() {
    episodes.forEach(({frames}, i) => {
      const context = canvases[i].getContext("2d"), frame = frames[Math.min(Number(moment.value), frames.length - 1)];
      for (let pixel = 0; pixel < width * height; pixel++) {
        context.fillStyle = colours[parseInt(frame[pixel], 36)];
        context.fillRect(pixel % width, Math.floor(pixel / width), 1, 1);
      }
    });
  }
  function name() {
    button.textContent = isPlaying ? "Pause" : "Play";
  }
  button.addEventListener("click", () => {
    isPlaying = !isPlaying;
    name();
  });
  moment.addEventListener("input", draw);
  setInterval(() => {
    if (!isPlaying) return;
    moment.value = (Number(moment.value) + 1) % length;
    draw();
  }, milliseconds);
  name();
  draw();
}

document.querySelectorAll("[data-values]").forEach(addReading);
document.querySelectorAll("[data-screens]").forEach(addScreens);
