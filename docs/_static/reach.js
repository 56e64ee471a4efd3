// What the theme leaves out: names for its parts, and keys that scroll what is wider than a phone.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "Pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
  for (const caption of document.querySelectorAll("[role=heading]:not([aria-level])")) {
    caption.setAttribute("aria-level", "2");
  }
  const reach = () => {
    for (const box of document.querySelectorAll("pre, .table-wrapper")) {
      box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1;
    }
  };
  reach();
  addEventListener("resize", reach);
});
