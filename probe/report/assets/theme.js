// Runs before the page is painted: the remembered theme, or else the system's.
const root = document.documentElement;
const darkSystem = matchMedia("(prefers-color-scheme: dark)");

function rememberedTheme() {
  try {
    return localStorage.getItem("probe-theme");
  } catch {
    return null; // a browser may refuse storage to files
  }
}

function applyTheme(name) {
  root.dataset.theme = name || (darkSystem.matches ? "dark" : "light");
}

applyTheme(rememberedTheme());
darkSystem.addEventListener("change", () => {
  applyTheme(rememberedTheme());
  document.dispatchEvent(new Event("themechange"));
});

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const show = () => {
    const dark = root.dataset.theme === "dark";
    button.setAttribute("aria-pressed", String(dark));
    button.firstElementChild.textContent = dark ? "☀" : "☾";
  };
  button.addEventListener("click", () => {
    const name = root.dataset.theme === "dark" ? "light" : "dark";
    applyTheme(name);
    try {
      localStorage.setItem("probe-theme", name);
    } catch {
      // not remembered, then
    }
    document.dispatchEvent(new Event("themechange"));
  });
  document.addEventListener("themechange", show);
  show();
});
