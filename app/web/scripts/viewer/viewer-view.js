/** The view of `/photos/{id}`: one photo or video, over the grid. */

import { library } from "../library/library.js";
import { registerShortcuts } from "../shell/keyboard.js";
import { registerView } from "../shell/router.js";
import { text } from "../shell/text.js";
import { Viewer } from "./viewer.js";

/** @type {{viewer: Viewer | null}} */
const current = { viewer: null };

const ZOOM_STEP = 1.5;

/**
 * @param {string[]} keys
 * @param {string} label
 * @param {(viewer: Viewer, event: KeyboardEvent) => void} act
 * @returns {import("../shell/keyboard.js").Shortcut}
 */
function shortcut(keys, label, act) {
  return {
    keys,
    label: text(label),
    when: () => current.viewer !== null,
    run: (event) => current.viewer && act(current.viewer, event),
  };
}

registerShortcuts(text("shortcuts.viewer"), [
  shortcut(["ArrowLeft", "ArrowRight"], "shortcuts.grid.step", (viewer, { key }) => viewer.step(key === "ArrowRight" ? 1 : -1)),
  shortcut(["Home", "End"], "shortcuts.grid.ends", (viewer, { key }) => viewer.jump(key === "Home" ? 0 : library.timeline.total - 1)),
  shortcut(["+", "-"], "shortcuts.viewer.zoom", (viewer, { key }) => viewer.zoom(key === "+" ? ZOOM_STEP : 1 / ZOOM_STEP)),
  shortcut([" "], "shortcuts.viewer.play", (viewer) => viewer.togglePlay()),
  shortcut(["i"], "viewer.info", (viewer) => viewer.toggleInfo()),
  shortcut(["f"], "viewer.favorite", (viewer) => viewer.toggleFavorite()),
  shortcut(["d"], "viewer.download", (viewer) => viewer.download()),
  shortcut(["Delete"], "viewer.trash", (viewer) => viewer.trash()),
  shortcut(["Escape"], "viewer.close", (viewer) => viewer.close()),
]);

registerView("/photos/{id}", {
  overlay: true,
  open({ id }, container) {
    current.viewer ??= new Viewer(container);
    current.viewer.open(id);
  },
  close() {
    current.viewer?.end();
    current.viewer = null;
  },
});
