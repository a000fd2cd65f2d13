// Uploads a file with tus-js-client and prints a report as JSON.
// Arguments: node_modules, address of the endpoint, protocol, chunk size, whether the first request has bytes, whether the length is told
// last, headers as JSON, metadata as JSON, file.
import { createReadStream, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { PassThrough } from "node:stream";

const [modules, endpoint, protocol, chunkSize, withCreation, deferred, headers, metadata, file] = process.argv.slice(2);
const tus = createRequire(`${modules}/`)("tus-js-client");
const report = { requests: [], sent: 0 };

await new Promise((resolve) => {
  // A stream alone has no length that the client could tell first; of a stream it does not see the end when it resumes.
  const source = deferred === "true" ? createReadStream(file).pipe(new PassThrough()) : readFileSync(file);
  const upload = new tus.Upload(source, {
    endpoint,
    protocol,
    chunkSize: Number(chunkSize),
    headers: JSON.parse(headers),
    metadata: JSON.parse(metadata),
    uploadLengthDeferred: deferred === "true",
    uploadDataDuringCreation: withCreation === "true",
    retryDelays: [0, 20, 50, 100, 200, 400, 800, 1000, 1000, 1000],
    onBeforeRequest(request) {
      report.requests.push(request.getMethod());
    },
    onAfterResponse(request, response) {
      report.asset = response.getHeader("Mediavault-Asset-Id") ?? null;
      report.offset = response.getHeader("Upload-Offset");
    },
    onChunkComplete(size) {
      report.sent += size;
    },
    onError(error) {
      report.error = String(error);
      resolve();
    },
    onSuccess() {
      report.url = upload.url;
      resolve();
    },
  });
  upload.start();
});
console.log(JSON.stringify(report));
