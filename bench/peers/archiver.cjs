// Node's archiver behind a plain HTTP server: serves the files of BENCH_FOLDER as one uncompressed zip on every path.
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const folder = process.env.BENCH_FOLDER;

async function main() {
  const { ZipArchive } = await import(require.resolve('archiver'));
  const server = http.createServer((request, response) => {
    const archive = new ZipArchive({ store: true });
    archive.on('error', (error) => response.destroy(error));
    response.writeHead(200, { 'Content-Type': 'application/zip' });
    archive.pipe(response);
    for (const name of fs.readdirSync(folder)) {
      archive.file(path.join(folder, name), { name });
    }
    archive.finalize();
  });
  server.listen(Number(process.env.BENCH_PORT), '127.0.0.1');
}

main();
