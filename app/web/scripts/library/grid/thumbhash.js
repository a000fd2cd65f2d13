/**
 * Decodes thumbhashes (https://evanw.github.io/thumbhash/): a picture as the strongest waves of its brightness, two colour
 * differences and its opacity, in some 25 bytes. No I/O.
 */

const LONGER_SIDE = 24;

/**
 * The picture, at most 24 pixels long, or null if the bytes are no thumbhash.
 * @param {Uint8Array} hash
 * @returns {{width: number, height: number, pixels: Uint8ClampedArray<ArrayBuffer>} | null}
 */
export function decodeThumbhash(hash) {
  if (hash.length < 5) {
    return null;
  }
  const { ratio, luminance, yellowBlue, redGreen, opacity } = readWaves(hash);
  const width = Math.max(1, Math.round(ratio > 1 ? LONGER_SIDE : LONGER_SIDE * ratio));
  const height = Math.max(1, Math.round(ratio > 1 ? LONGER_SIDE / ratio : LONGER_SIDE));
  const planes = [luminance, yellowBlue, redGreen, opacity].map((waves) => waves && sumWaves(waves, width, height));
  const [light, blue, red, alpha] = planes;
  const pixels = new Uint8ClampedArray(width * height * 4);
  for (let place = 0; place < width * height; place += 1) {
    const colour = mixColor(light?.[place] ?? 0, blue?.[place] ?? 0, red?.[place] ?? 0);
    for (let channel = 0; channel < 3; channel += 1) {
      pixels[place * 4 + channel] = colour[channel] * 255;
    }
    pixels[place * 4 + 3] = (alpha ? alpha[place] : 1) * 255;
  }
  return { width, height, pixels };
}

/**
 * The average colour of the picture, as CSS writes it; "" if the bytes are no thumbhash.
 * @param {Uint8Array} hash
 */
export function readAverageColor(hash) {
  if (hash.length < 5) {
    return "";
  }
  const { luminance, yellowBlue, redGreen } = readAverages(hash);
  const colour = mixColor(luminance, yellowBlue, redGreen).map((value) => Math.round(Math.min(Math.max(value, 0), 1) * 255));
  return `rgb(${colour.join(" ")})`;
}

/**
 * Red, green and blue from 0 to 1.
 * @param {number} luminance
 * @param {number} yellowBlue
 * @param {number} redGreen
 */
function mixColor(luminance, yellowBlue, redGreen) {
  const blue = luminance - (2 / 3) * yellowBlue;
  const red = (3 * luminance - blue + redGreen) / 2;
  return [red, red - redGreen, blue];
}

/** @param {Uint8Array} hash */
function readAverages(hash) {
  const head = hash[0] | (hash[1] << 8) | (hash[2] << 16);
  return { luminance: (head & 63) / 63, yellowBlue: ((head >> 6) & 63) / 31.5 - 1, redGreen: ((head >> 12) & 63) / 31.5 - 1 };
}

/**
 * `strengths[v]`: of the waves with `v` periods down and 0, 1, … across; the one at 0, 0 is the average.
 * @typedef {{strengths: number[][]}} Waves
 */

/** @param {Uint8Array} hash */
function readWaves(hash) {
  const head = hash[0] | (hash[1] << 8) | (hash[2] << 16);
  const tail = hash[3] | (hash[4] << 8);
  const hasAlpha = head >> 23 !== 0;
  const isLandscape = tail >> 15 !== 0;
  const longSide = hasAlpha ? 5 : 7;
  const shortSide = tail & 7;
  const across = Math.max(3, isLandscape ? longSide : shortSide);
  const down = Math.max(3, isLandscape ? shortSide : longSide);
  const nibbles = readNibbles(hash, hasAlpha ? 6 : 5);
  const averages = readAverages(hash);
  /** @type {(average: number, columns: number, rows: number, scale: number) => Waves} */
  const read = (average, columns, rows, scale) => readChannel(nibbles, average, columns, rows, scale);
  return {
    ratio: (isLandscape ? longSide : shortSide) / (isLandscape ? shortSide : longSide) || 1,
    luminance: read(averages.luminance, across, down, ((head >> 18) & 31) / 31),
    yellowBlue: read(averages.yellowBlue, 3, 3, (((tail >> 3) & 63) / 63) * 1.25),
    redGreen: read(averages.redGreen, 3, 3, (((tail >> 9) & 63) / 63) * 1.25),
    opacity: hasAlpha ? read((hash[5] & 15) / 15, 5, 5, (hash[5] >> 4) / 15) : null,
  };
}

/**
 * The values of four bits from byte `start` on, each from -1 to 1; zeros after the end.
 * @param {Uint8Array} hash
 * @param {number} start
 * @returns {() => number}
 */
function readNibbles(hash, start) {
  let place = start * 2;
  return () => {
    const byte = hash[place >> 1];
    const value = byte === undefined ? 0 : ((byte >> ((place & 1) * 4)) & 15) / 7.5 - 1;
    place += 1;
    return value;
  };
}

/**
 * @param {() => number} nextNibble
 * @param {number} average
 * @param {number} columns
 * @param {number} rows
 * @param {number} scale
 * @returns {Waves}
 */
function readChannel(nextNibble, average, columns, rows, scale) {
  const strengths = [];
  for (let v = 0; v < rows; v += 1) {
    const row = v === 0 ? [average] : [];
    while (row.length * rows < columns * (rows - v)) {
      row.push(nextNibble() * scale * 2);
    }
    strengths.push(row);
  }
  return { strengths };
}

/**
 * @param {Waves} waves
 * @param {number} width
 * @param {number} height
 * @returns {Float32Array}
 */
function sumWaves({ strengths }, width, height) {
  const plane = new Float32Array(width * height);
  const columns = strengths[0].length;
  const cosines = Array.from({ length: columns }, (_, u) =>
    Float32Array.from({ length: width }, (_, x) => Math.cos((Math.PI / width) * (x + 0.5) * u)),
  );
  for (let y = 0; y < height; y += 1) {
    const factors = new Float32Array(columns);
    strengths.forEach((row, v) => {
      const cosine = Math.cos((Math.PI / height) * (y + 0.5) * v);
      row.forEach((strength, u) => {
        factors[u] += strength * cosine;
      });
    });
    for (let x = 0; x < width; x += 1) {
      let sum = 0;
      for (let u = 0; u < columns; u += 1) {
        sum += factors[u] * cosines[u][x];
      }
      plane[y * width + x] = sum;
    }
  }
  return plane;
}
