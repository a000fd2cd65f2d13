// The same work with sharp: one decode, the preview from it, thumbnail and thumbhash from the preview.
// A request line names a photo and a folder; the answer is the seconds it took.
const net = require('node:net');
const path = require('node:path');
const readline = require('node:readline');
const sharp = require('sharp');

sharp.concurrency(1);
sharp.cache(false);

async function process_(source, folder, thumbhash) {
  const input = sharp(source).rotate().toColourspace('srgb').flatten({ background: '#ffffff' });
  const { data, info } = await input
    .resize(1440, 1440, { fit: 'outside', withoutEnlargement: true })
    .raw()
    .toBuffer({ resolveWithObject: true });
  const raw = { raw: { width: info.width, height: info.height, channels: info.channels } };
  await sharp(data, raw).jpeg({ quality: 80, chromaSubsampling: '4:4:4' }).toFile(path.join(folder, 'preview.jpg'));
  const small = await sharp(data, raw)
    .resize(250, 250, { fit: 'outside', withoutEnlargement: true })
    .raw()
    .toBuffer({ resolveWithObject: true });
  const smallRaw = { raw: { width: small.info.width, height: small.info.height, channels: small.info.channels } };
  await sharp(small.data, smallRaw).webp({ quality: 80 }).toFile(path.join(folder, 'thumbnail.webp'));
  const tiny = await sharp(small.data, smallRaw)
    .resize(100, 100, { fit: 'inside', withoutEnlargement: true })
    .ensureAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  thumbhash.rgbaToThumbHash(tiny.info.width, tiny.info.height, tiny.data);
}

async function main() {
  const thumbhash = await import(process.env.BENCH_THUMBHASH);
  const server = net.createServer({ allowHalfOpen: true }, async (socket) => {
    for await (const line of readline.createInterface({ input: socket })) {
      const [source, folder] = line.split('\t');
      const begun = process.hrtime.bigint();
      await process_(source, folder, thumbhash);
      socket.write(`${Number(process.hrtime.bigint() - begun) / 1e9}\n`);
    }
    socket.end();
  });
  server.listen(Number(process.env.BENCH_PORT), '127.0.0.1');
}

main();
