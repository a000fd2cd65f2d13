/** SHA-1 (RFC 3174) of a stream of bytes. SubtleCrypto hashes whole buffers only, and exists only on HTTPS and localhost. */

const BLOCK_BYTES = 64;

/** Hashes bytes as they come. Up to 2^53 bytes. */
export class Sha1 {
  #state = new Int32Array([0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]);
  #schedule = new Int32Array(80);
  #rest = new Uint8Array(BLOCK_BYTES);
  #restLength = 0;
  #length = 0;

  /** @param {Uint8Array} bytes */
  update(bytes) {
    this.#length += bytes.length;
    let start = 0;
    if (this.#restLength > 0) {
      start = Math.min(BLOCK_BYTES - this.#restLength, bytes.length);
      this.#rest.set(bytes.subarray(0, start), this.#restLength);
      this.#restLength += start;
      if (this.#restLength < BLOCK_BYTES) {
        return;
      }
      compress(this.#state, this.#schedule, this.#rest, 0, BLOCK_BYTES);
    }
    const end = start + Math.floor((bytes.length - start) / BLOCK_BYTES) * BLOCK_BYTES;
    compress(this.#state, this.#schedule, bytes, start, end);
    this.#rest.set(bytes.subarray(end));
    this.#restLength = bytes.length - end;
  }

  /**
   * Ends the stream; `update` must not be called after it.
   * @returns {string} the digest in hex
   */
  digest() {
    const padding = new Uint8Array(this.#restLength < 56 ? BLOCK_BYTES : 2 * BLOCK_BYTES);
    padding.set(this.#rest.subarray(0, this.#restLength));
    padding[this.#restLength] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(this.#length / 0x20000000));
    view.setUint32(padding.length - 4, (this.#length << 3) >>> 0);
    compress(this.#state, this.#schedule, padding, 0, padding.length);
    return Array.from(this.#state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

/**
 * @param {ArrayBuffer} buffer
 * @returns {string} its bytes in hex
 */
export function toHex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Adds whole blocks to `state`.
 * @param {Int32Array} state
 * @param {Int32Array} w the message schedule, 80 words
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 */
function compress(state, w, bytes, start, end) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = start; at < end; at += BLOCK_BYTES) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + 4 * i);
    for (let i = 16; i < 80; i++) {
      const word = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
      w[i] = (word << 1) | (word >>> 31);
    }
    addBlock(state, w);
  }
}

/**
 * @param {Int32Array} state
 * @param {Int32Array} w
 */
function addBlock(state, w) {
  let a = state[0];
  let b = state[1];
  let c = state[2];
  let d = state[3];
  let e = state[4];
  for (let i = 0; i < 20; i++) {
    const next = (((a << 5) | (a >>> 27)) + (d ^ (b & (c ^ d))) + e + 0x5a827999 + w[i]) | 0;
    e = d;
    d = c;
    c = (b << 30) | (b >>> 2);
    b = a;
    a = next;
  }
  for (let i = 20; i < 40; i++) {
    const next = (((a << 5) | (a >>> 27)) + (b ^ c ^ d) + e + 0x6ed9eba1 + w[i]) | 0;
    e = d;
    d = c;
    c = (b << 30) | (b >>> 2);
    b = a;
    a = next;
  }
  for (let i = 40; i < 60; i++) {
    const next = (((a << 5) | (a >>> 27)) + ((b & c) | (d & (b | c))) + e + 0x8f1bbcdc + w[i]) | 0;
    e = d;
    d = c;
    c = (b << 30) | (b >>> 2);
    b = a;
    a = next;
  }
  for (let i = 60; i < 80; i++) {
    const next = (((a << 5) | (a >>> 27)) + (b ^ c ^ d) + e + 0xca62c1d6 + w[i]) | 0;
    e = d;
    d = c;
    c = (b << 30) | (b >>> 2);
    b = a;
    a = next;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
}
