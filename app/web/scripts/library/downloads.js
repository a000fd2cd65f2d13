/**
 * Downloads through links, which the browser's own download manager follows: it shows the length, and can pause and resume. All functions
 * throw `ApiError`.
 */

import { request } from "../shell/api.js";
import { openDialog } from "../shell/dialogs.js";
import { element, iconButton } from "../shell/dom.js";
import { describeError } from "../shell/errors.js";
import { formatBytes } from "../shell/format.js";
import { text } from "../shell/text.js";

/** @typedef {{size: number, assetIds: string[]}} ArchivePart */

/**
 * One file as it is; several as zip archives, of which more than one are offered in a dialog.
 * @param {string[]} ids
 */
export async function downloadAssets(ids) {
  /** @type {{archives: ArchivePart[]}} */
  const { archives } = await request("POST", "/download/info", { json: { assetIds: ids } });
  if (archives.length === 1 && archives[0].assetIds.length === 1) {
    downloadOriginal(archives[0].assetIds[0]);
  } else if (archives.length === 1) {
    followLink(await createLink(archives[0], buildName(null)));
  } else {
    offerParts(archives);
  }
}

/** @param {string} id of an asset */
export function downloadOriginal(id) {
  followLink(`/api/assets/${id}/original?download=true`);
}

/**
 * @param {ArchivePart} part
 * @param {string} archiveName
 * @returns {Promise<string>} its address
 */
async function createLink({ assetIds }, archiveName) {
  return (await request("POST", "/download/links", { json: { assetIds, archiveName } })).url;
}

/** @param {ArchivePart[]} archives */
function offerParts(archives) {
  const rows = archives.map((part, index) => {
    const number = index + 1;
    const state = element("span", { class: "muted" }, describePart(part));
    const download = async () => {
      button.disabled = true;
      try {
        followLink(await createLink(part, buildName(number)));
        state.textContent = text("downloads.part.started");
      } catch (error) {
        state.textContent = describeError(error);
      } finally {
        button.disabled = false;
      }
    };
    const button = iconButton({ icon: "download", label: text("downloads.part.download", { number }), onClick: download });
    return element("li", { class: "download-part" }, element("span", { class: "download-name" }, buildName(number), state), button);
  });
  openDialog({
    title: text("downloads.title"),
    content: element("div", {}, element("p", {}, text("downloads.body", { count: archives.length })), element("ul", { class: "download-parts" }, rows)),
  });
}

/** @param {ArchivePart} part */
function describePart({ size, assetIds }) {
  return text("downloads.part", { size: formatBytes(size), count: assetIds.length });
}

/** @param {number | null} part */
function buildName(part) {
  const day = new Date().toLocaleDateString("sv"); // ISO 8601, local
  return part === null ? `mediavault ${day}.zip` : `mediavault ${day} (${part}).zip`;
}

/** @param {string} address */
function followLink(address) {
  const link = element("a", { href: address, download: true, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
}
