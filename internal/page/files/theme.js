// The button for light and dark: as the system says, or one of the two.

import { text, set } from "./dom.js";

const themes = ["auto", "light", "dark"];

/** themes makes the button work; changed is called when colours are others. */
export function follow(changed) {
  const button = document.getElementById("theme");
  const be = (t) => {
    document.documentElement.dataset.theme = t;
    localStorage.setItem("theme", t);
    text(button, { auto: "◐", light: "☀", dark: "☾" }[t]);
    set(button, "aria-label", "Theme: " + t);
    set(button, "title", "Theme: " + t);
    changed();
  };
  button.addEventListener("click", () => be(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  be(themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");
}
