// Going from page to page without loading anew.
import { signal } from "./api/signal.ts";
import { ROOT } from "./routing.ts";

/** The path that is shown. */
export const shown = signal(location.pathname);

/** Links of the console are followed here, unless the reader wants them elsewhere. */
export function listen(): void {
  addEventListener("popstate", () => shown.set(location.pathname));
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element).closest?.("a");
    if (!link || link.target || link.origin !== location.origin) return;
    if (link.pathname !== ROOT && !link.pathname.startsWith(`${ROOT}/`)) return;
    // The skip link stays on its page.
    if (link.hash !== "" && link.pathname === location.pathname) return;
    event.preventDefault();
    go(link.pathname);
  });
}

/** Shows the page at `path`. */
export function go(path: string): void {
  if (path === location.pathname) return;
  history.pushState(null, "", path);
  scrollTo(0, 0);
  shown.set(path);
}
