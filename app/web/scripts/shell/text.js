/**
 * All texts of the page. Another language is another map of this shape: `{name}` stands for a value, and an entry with
 * forms is chosen by the plural rules for the value `count`.
 * @typedef {string | {one: string, other: string}} Entry
 */

import { formatNumber } from "./format.js";

export const LANGUAGE = "en";

/** @type {Record<string, Entry>} */
const TEXTS = {
  // Everywhere
  "title.plain": "mediavault",
  "title.page": "{title} · mediavault",
  "frame.skip": "Skip to content",
  "frame.offline": "No connection. Trying again by itself.",
  "error.unreachable": "The server cannot be reached.",
  "error.status": "The server answered with an error ({status}).",
  "error.retry": "Try again",
  "toasts.label": "Messages",
  "toasts.close": "Close",
  "dialog.cancel": "Cancel",
  "dialog.close": "Close",

  // Header
  "header.home": "mediavault, to the photos",
  "header.views": "Views",
  "header.photos": "Photos",
  "account.menu": "Account",
  "account.signout": "Sign out",

  // Keyboard
  "shortcuts.title": "Keyboard shortcuts",
  "shortcuts.everywhere": "Everywhere",
  "shortcuts.help": "This list",
  "key.ArrowLeft": "←",
  "key.ArrowRight": "→",
  "key.ArrowUp": "↑",
  "key.ArrowDown": "↓",
  "key. ": "Space",
  "key.Escape": "Esc",
  "key.Delete": "Del",
  "key.PageUp": "Page ↑",
  "key.PageDown": "Page ↓",

  // Library
  "grid.label": "Photos by month",
  "grid.month.failed": "This month could not be loaded.",
  "grid.day.select": "Select {day}",
  "library.empty.title": "Room for your photos",
  "library.empty.body": "Drop photos and videos anywhere on this page, or choose them.",
  "library.empty.action": "Choose files",
  "library.error.title": "The photos could not be read",
  "scrubber.label": "Jump to a month",
  "tile.photo": "Photo, {day}, {time}",
  "tile.live": "Live photo, {day}, {time}",
  "tile.video": "Video, {day}, {time}",
  "tile.video.duration": "Video of {duration}, {day}, {time}",
  "tile.favorite": ", favorite",
  "tile.select": "Select {name}",
  "shortcuts.grid": "Photos",
  "shortcuts.grid.step": "Previous or next",
  "shortcuts.grid.row": "Row above or below",
  "shortcuts.grid.page": "A screen up or down",
  "shortcuts.grid.ends": "Newest or oldest",
  "shortcuts.grid.open": "Open",
  "shortcuts.grid.select": "Select",
  "shortcuts.grid.range": "Select up to here",
  "shortcuts.grid.day": "Select the day",

  // Viewer
  "viewer.label": "Viewer",
  "viewer.actions": "Actions",
  "viewer.close": "Back to the photos",
  "viewer.previous": "Previous",
  "viewer.next": "Next",
  "viewer.live": "Play the live photo",
  "viewer.info": "Details",
  "viewer.favorite": "Favorite",
  "viewer.favorite.added": "Marked as a favorite",
  "viewer.favorite.removed": "No favorite any more",
  "viewer.download": "Download the original",
  "viewer.trash": "Move to the trash",
  "viewer.trashed": "Moved to the trash",
  "viewer.undo": "Undo",
  "viewer.restored": "Restored from the trash",
  "viewer.video": "Video",
  "viewer.video.failed": "This video cannot be played here yet. The original can be downloaded.",
  "viewer.waiting": "No preview yet. The original can be downloaded.",
  "viewer.missing": "This photo is not here. It may have been deleted.",
  "viewer.missing.back": "Show all photos",
  "viewer.shown.photo": "Photo, {when}",
  "viewer.shown.video": "Video, {when}",
  "shortcuts.viewer": "Viewer",
  "shortcuts.viewer.step": "Previous or next",
  "shortcuts.viewer.ends": "Newest or oldest",
  "shortcuts.viewer.zoom": "Zoom in or out",
  "shortcuts.viewer.play": "Play or pause",
  "info.title": "Details",
  "info.close": "Close the details",
  "info.warning": "Something is wrong",
  "info.zone.unknown": "time zone unknown",
  "info.camera": "Camera",
  "info.seconds": "{value} s",
  "info.millimetres": "{value} mm",
  "info.fps": "{value} frames/s",
  "info.pixels": "{size} ({count} MP)",
  "info.disk": "On the server's disk",
  "info.s3": "In the S3 bucket",
  "info.library": "In a library, where it lies",
  "info.library.offline": "In a library that is away",
  "info.checksum": "SHA-1",

  // Sign-in
  "signin.title": "Sign in",
  "signin.email": "E-mail",
  "signin.password": "Password",
  "signin.key": "API key",
  "signin.submit": "Sign in",
  "signin.withkey": "Sign in with an API key",
  "signin.withpassword": "Sign in with e-mail and password",
  "signin.expired": "Your session has ended. Sign in to go on where you were.",
  "signin.password.wrong": "That e-mail and password do not match.",
  "signin.key.wrong": "That key is not valid.",
  "signin.toomany": "Too many attempts. Wait a moment, then try again.",
  "signin.token.used": "That address has been used already, or it is older than ten minutes.",

  // Uploads
  "uploads.button": "Upload",
  "uploads.shortcuts": "Uploads",
  "uploads.shortcut": "Choose files to upload",
  "uploads.choose.files": "Photos and videos",
  "uploads.choose.folder": "A folder",
  "uploads.choose.hint": "Or drop files and folders anywhere on the page.",
  "uploads.drop": "Drop to upload",
  "uploads.nothing": "There are no files in it.",
  "uploads.unreadable": { one: "{name} cannot be read.", other: "{name} and others cannot be read ({count})." },
  "uploads.list": "Files",
  "uploads.title.busy": "Uploading {done} of {count}",
  "uploads.title.paused": "Paused at {done} of {count}",
  "uploads.title.ended": "Uploads",
  "uploads.amount": "{sent} of {size}",
  "uploads.speed": "{speed}/s",
  "uploads.left.seconds": "{count} s left",
  "uploads.left.minutes": "{count} min left",
  "uploads.left.hours": "{count} h left",
  "uploads.pause": "Pause all",
  "uploads.resume": "Resume all",
  "uploads.fold": "Show less",
  "uploads.unfold": "Show files",
  "uploads.close": "Close uploads",
  "uploads.stop.title": "Stop the uploads?",
  "uploads.stop.body": "What has been uploaded stays. Files that are not complete are discarded.",
  "uploads.stop.action": "Stop uploads",
  "uploads.pause.one": "Pause {name}",
  "uploads.resume.one": "Resume {name}",
  "uploads.retry.one": "Try {name} again",
  "uploads.cancel.one": "Cancel {name}",
  "uploads.filters": "Which files are shown",
  "uploads.filter.all": "All ({count})",
  "uploads.filter.failed": "Failed ({count})",
  "uploads.filter.duplicate": "Already here ({count})",
  "uploads.retry": "Try failed again",
  "uploads.announce.begin": { one: "Uploading 1 file", other: "Uploading {count} files" },
  "uploads.outcome.uploaded": "{count} uploaded",
  "uploads.outcome.duplicates": "{count} already here",
  "uploads.outcome.failed": "{count} failed",
  "uploads.outcome.nothing": "Nothing was uploaded.",
  "uploads.state.waiting": "Waiting",
  "uploads.state.hashing": "Reading",
  "uploads.state.checking": "Checking",
  "uploads.state.ready": "Waiting",
  "uploads.state.sending": "{sent} of {size}",
  "uploads.state.paused": "Paused",
  "uploads.state.done": "Uploaded",
  "uploads.state.duplicate": "Already here",
  "uploads.state.failed": "Failed",
  "uploads.state.cancelled": "Cancelled",
  "uploads.duplicate": "Already here",
  "uploads.duplicate.trashed": "Already here, in the trash",
  "uploads.duplicate.sidecar": "Already here; its XMP file was not added",
  "uploads.refused.sidecar": "No photo or video with this name came with this XMP file.",
  "uploads.refused.empty": "The file is empty.",
  "uploads.refused.type": "Not a photo or video that can be kept here.",
  "uploads.failed.unreadable": "The file cannot be read any more. It was moved, changed or removed.",
  "uploads.failed.large": "The file is larger than the server takes.",
  "uploads.failed.unknown": "Something went wrong in the browser.",
  "uploads.wait.connection": "Waiting for the connection",
  "uploads.wait.server": "Trying again soon: {reason}",
  "uploads.wait.signin": "Sign in again to go on.",

  // Selection, and what is done with it
  "shortcuts.selection": "Selection",
  "selection.bar": "Selection",
  "selection.count": { one: "1 selected", other: "{count} selected" },
  "selection.clear": "Clear the selection",
  "selection.all": "Select all",
  "selection.download": "Download",
  "selection.favorite": "Favourite",
  "selection.trash": "Move to trash",
  "assets.trashed": { one: "Moved to the trash", other: "{count} moved to the trash" },
  "assets.undo": "Undo",
  "assets.restored": { one: "Restored", other: "{count} restored" },
  "assets.delete.title": { one: "Delete it for good?", other: "Delete {count} items for good?" },
  "assets.delete.body": "This cannot be undone.",
  "assets.delete.action": "Delete for good",
  "assets.deleted": { one: "Deleted", other: "{count} deleted" },
  "assets.favorite.set": { one: "Added to the favourites", other: "{count} added to the favourites" },
  "assets.favorite.unset": { one: "Taken out of the favourites", other: "{count} taken out of the favourites" },
  "downloads.title": "Download",
  "downloads.body": { one: "", other: "This is more than one archive should hold, so there are {count}. They can be unpacked into one folder." },
  "downloads.part": { one: "{size}, 1 file", other: "{size}, {count} files" },
  "downloads.part.download": "Download archive {number}",
  "downloads.part.started": "The download has started",

  // Trash
  "trash.title": "Trash",
  "trash.note": { one: "What is here is deleted for good after 1 day.", other: "What is here is deleted for good after {count} days." },
  "trash.note.forever": "What is here stays until it is deleted for good.",
  "trash.restore": "Restore",
  "trash.delete": "Delete for good",
  "trash.restore.all": "Restore all",
  "trash.empty": "Empty trash",
  "trash.empty.title": { one: "Delete 1 item for good?", other: "Delete {count} items for good?" },
  "trash.empty.body": "Everything in the trash is deleted, which cannot be undone. Files of external libraries stay.",
  "trash.emptied": { one: "1 item deleted", other: "{count} items deleted" },
  "trash.nothing.title": "The trash is empty",
  "trash.nothing.body": "Photos and videos that you move to the trash can be restored from here.",
};

const plurals = new Intl.PluralRules(LANGUAGE);

/**
 * The text of this key, with `values` filled in; numbers are written as the language does.
 * @param {string} key
 * @param {Record<string, string | number>} values
 * @returns {string}
 */
export function text(key, values = {}) {
  const entry = TEXTS[key];
  if (entry === undefined) {
    throw new RangeError(`there is no text ${key}`);
  }
  const pattern = typeof entry === "string" ? entry : entry[plurals.select(Number(values.count)) === "one" ? "one" : "other"];
  return pattern.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? formatNumber(value) : String(value ?? "");
  });
}

/**
 * @param {string} key
 * @returns {boolean} whether there is a text of this key
 */
text.has = (key) => Object.hasOwn(TEXTS, key);
