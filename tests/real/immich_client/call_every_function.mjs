// Calls the functions of @immich/sdk that the service serves, in one order, and prints what it sent and what came back as JSON.
// Arguments: the folder node_modules, the service's address, an administrator's key, a folder for a library, a JPEG file.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [packages, address, key, folder, photo] = process.argv.slice(2);
const sdk = await import(pathToFileURL(`${packages}/@immich/sdk/build/index.js`));
const requests = [];
const results = {};

sdk.setFetch(async (url, options) => {
  requests.push(`${options?.method ?? "GET"} ${new URL(url).pathname}`);
  return fetch(url, options);
});
sdk.init({ baseUrl: `${address}/api`, apiKey: key });

async function call(name, parameters) {
  const options = parameters === undefined ? [] : [parameters];
  try {
    const answer = await sdk[name](...options);
    results[name] = answer instanceof Blob ? { bytes: answer.size } : (answer ?? null);
    return answer;
  } catch (error) {
    throw new Error(`${name}: ${error.status ?? ""} ${JSON.stringify(error.data) ?? error.stack}`);
  }
}

async function refused(name, parameters, status) {
  try {
    await sdk[name](parameters);
  } catch (error) {
    if (error.status === status) {
      results[name] = error.data.message;
      return;
    }
    throw new Error(`${name}: ${error.status} in place of ${status}`);
  }
  throw new Error(`${name} is not refused`);
}

const moments = { fileCreatedAt: "2024-05-01T10:00:00.000Z", fileModifiedAt: "2024-05-01T10:00:00.000Z" };
const nobody = "0d4c1d0e-0000-4000-8000-000000000000";
const content = readFileSync(photo);
const upload = (name, bytes, more = {}) =>
  call("uploadAsset", { assetMediaCreateDto: { assetData: new File([bytes], name), ...moments, ...more } });

for (const name of ["pingServer", "getServerVersion", "getServerFeatures", "getServerConfig", "getSupportedMediaTypes",
  "getVersionHistory", "getVersionCheck", "getAboutInfo", "getStorage", "getServerStatistics"]) {
  await call(name);
}

// As text: a list would be sent as files, which Immich does not take either.
const metadata = JSON.stringify([{ key: "note", value: { from: "sdk" } }]);
const { id } = await upload("one.jpg", content, { metadata });
const { id: other } = await upload("two.jpg", Buffer.concat([content, Buffer.from("2")]));
await call("checkBulkUpload", { assetBulkUploadCheckDto: { assets: [{ id: "x", checksum: "0".repeat(40) }] } });
await call("getAssetInfo", { id });
await call("updateAsset", { id, updateAssetDto: { isFavorite: true, dateTimeOriginal: "2023-06-01T12:00:00+02:00" } });
await call("updateAssets", { assetBulkUpdateDto: { ids: [id, other], dateTimeRelative: 60, rating: 4 } });
await call("getAssetStatistics", {});
await call("getAssetMetadata", { id });
await call("getAssetMetadataByKey", { id, key: "note" });
await call("runAssetJobs", { assetJobsDto: { assetIds: [id], name: sdk.AssetJobName.RefreshMetadata } });
await call("downloadAsset", { id });
await refused("viewAsset", { id, size: sdk.AssetMediaSize.Preview }, 404);
await refused("playAssetVideo", { id }, 404);
await call("getDownloadInfo", { downloadInfoDto: { assetIds: [id, other] } });
await call("downloadArchive", { downloadArchiveDto: { assetIds: [id, other] } });

await call("searchAssets", { metadataSearchDto: { originalFileName: "one", withExif: true } });
await call("searchRandom", { randomSearchDto: { size: 5 } });
await call("searchAssetStatistics", { statisticsSearchDto: { isFavorite: true } });
await call("searchLargeAssets", { minFileSize: 1, withExif: true });
const [bucket] = await call("getTimeBuckets", { order: sdk.AssetOrder.Desc, withPartners: true, withStacked: true });
await call("getTimeBucket", { timeBucket: bucket.timeBucket, withCoordinates: true, withStacked: true });
const [path] = await call("getUniqueOriginalPaths");
await call("getAssetsByOriginalPath", { path });

await call("deleteAssets", { assetBulkDeleteDto: { ids: [id, other] } });
await call("restoreAssets", { bulkIdsDto: { ids: [id] } });
await call("restoreTrash");
await call("deleteAssets", { assetBulkDeleteDto: { ids: [other] } });
await call("emptyTrash");

const me = await call("getMyUser");
await call("updateMyUser", { userUpdateMeDto: { name: "Anna" } });
await call("getMyPreferences");
await call("searchUsers");
await call("getUser", { id: me.id });
await call("createProfileImage", { createProfileImageDto: { file: new File([content], "me.jpg") } });
await call("getProfileImage", { id: me.id });
await call("deleteProfileImage");
await refused("getPersonThumbnail", { id: nobody }, 404);

const password = "correct horse battery staple";
const email = `sdk-${me.email}`;
const user = await call("createUserAdmin", { userAdminCreateDto: { email, name: "Berta", password } });
await call("searchUsersAdmin", { withDeleted: true });
await call("getUserAdmin", { id: user.id });
await call("updateUserAdmin", { id: user.id, userAdminUpdateDto: { quotaSizeInBytes: 1000 } });
await call("getUserPreferencesAdmin", { id: user.id });
await call("getUserStatisticsAdmin", { id: user.id });
const { accessToken } = await call("login", { loginCredentialDto: { email, password } });
await call("getUserSessionsAdmin", { id: user.id });
const asUser = { headers: { authorization: `Bearer ${accessToken}` } };
delete sdk.defaults.headers["x-api-key"];
await sdk.validateAccessToken(asUser);
const [session] = await sdk.getSessions(asUser);
await sdk.deleteAllSessions(asUser);
await sdk.changePassword({ changePasswordDto: { password, newPassword: `${password}!` } }, asUser);
await sdk.logout(asUser);
sdk.setApiKey(key);
results.getSessions = session;
await refused("deleteSession", { id: session.id }, 404);
await call("deleteUserAdmin", { id: user.id, userAdminDeleteDto: { force: true } });

const created = await call("createApiKey", { apiKeyCreateDto: { name: "sdk", permissions: [sdk.Permission.AssetRead] } });
await call("getMyApiKey");
await call("getApiKeys");
const apiKey = created.id ?? created.apiKey.id;
await call("getApiKey", { id: apiKey });
await call("updateApiKey", { id: apiKey, apiKeyUpdateDto: { name: "other" } });
await call("deleteApiKey", { id: apiKey });

const library = await call("createLibrary", { createLibraryDto: { ownerId: me.id, importPaths: [folder] } });
await call("getAllLibraries");
await call("getLibrary", { id: library.id });
await call("updateLibrary", { id: library.id, updateLibraryDto: { name: "sdk" } });
await call("validate", { id: library.id, validateLibraryDto: { importPaths: [folder] } });
await call("getLibraryStatistics", { id: library.id });
await call("scanLibrary", { id: library.id });
await call("deleteLibrary", { id: library.id });

const name = sdk.QueueName.VideoConversion;
await call("getQueues");
await call("getQueue", { name });
await call("updateQueue", { name, queueUpdateDto: { isPaused: true } });
await call("updateQueue", { name, queueUpdateDto: { isPaused: false } });
await call("getQueueJobs", { name, status: [sdk.QueueJobStatus.Waiting] });
await call("emptyQueue", { name, queueDeleteDto: { failed: true } });
await call("getQueuesLegacy");
await call("runQueueCommandLegacy", { name, queueCommandDto: { command: sdk.QueueCommand.ClearFailed } });

for (const [list, parameters] of [["getAllAlbums", {}], ["getAlbumStatistics"], ["getAllPeople", {}], ["searchMemories", {}],
  ["memoriesStatistics", {}], ["getAllTags"], ["searchStacks", {}], ["getAllSharedLinks", {}],
  ["getPartners", { direction: "shared-by" }], ["getNotifications", {}], ["getActivities", { albumId: nobody }],
  ["getActivityStatistics", { albumId: nobody }], ["getAssetDuplicates"], ["getFaces", { id }], ["getMapMarkers", {}],
  ["reverseGeocode", { lat: 1, lon: 2 }], ["searchPerson", { name: "x" }], ["searchPlaces", { name: "x" }],
  ["getAssetsByCity"], ["getExploreData"], ["getSearchSuggestions", { $type: "city" }]]) {
  await call(list, parameters);
}
await refused("createAlbum", { createAlbumDto: { albumName: "x" } }, 400);
await refused("getAlbumInfo", { id: nobody }, 404);

console.log(JSON.stringify({ requests, results }));
