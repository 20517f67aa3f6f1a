// The theme: the system's, unless the reader selects another. Runs before the first paint.
"use strict";
(() => {
  const THEMES = ["auto", "light", "dark"];
  const root = document.documentElement;
  let theme = "auto";
  try {
    theme = localStorage.getItem("firehose.theme") ?? "auto";
  } catch { /* No storage: the system's theme. */ }
  if (!THEMES.includes(theme)) theme = "auto";
  root.dataset.theme = theme;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const tell = () => {
      button.textContent = `Theme: ${root.dataset.theme}`;
      window.dispatchEvent(new Event("theme"));
    };
    button.addEventListener("click", () => {
      root.dataset.theme = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
      try {
        localStorage.setItem("firehose.theme", root.dataset.theme);
      } catch { /* It holds until the page is closed. */ }
      tell();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
    tell();
  });
})();
