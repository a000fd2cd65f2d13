// Reads an asset with the functions of @immich/sdk that Immich's own page uses for files, and prints what came as JSON.
// Arguments: the folder node_modules, the address, a key, the id of a photo, the id of a video if there is one.
import { createHash } from "node:crypto";
import { pathToFileURL } from "node:url";

const [packages, address, key, photo, video] = process.argv.slice(2);
const sdk = await import(pathToFileURL(`${packages}/@immich/sdk/build/index.js`));
sdk.init({ baseUrl: `${address}/api`, apiKey: key });

async function hash(blob) {
  return createHash("sha1").update(Buffer.from(await blob.arrayBuffer())).digest("hex");
}

const ids = [photo, ...(video ? [video] : [])];
const results = {
  info: await sdk.getAssetInfo({ id: photo }),
  original: await hash(await sdk.downloadAsset({ id: photo })),
  thumbnail: await hash(await sdk.viewAsset({ id: photo, size: sdk.AssetMediaSize.Thumbnail })),
  preview: await hash(await sdk.viewAsset({ id: photo, size: sdk.AssetMediaSize.Preview })),
  ...(video && { playback: await hash(await sdk.playAssetVideo({ id: video })) }),
  sizes: await sdk.getDownloadInfo({ downloadInfoDto: { assetIds: ids } }),
  archive: await hash(await sdk.downloadArchive({ downloadArchiveDto: { assetIds: ids } })),
};
console.log(JSON.stringify(results));
