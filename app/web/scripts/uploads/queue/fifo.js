/** A queue whose `shift` does not move what remains. @template Item */
export class Fifo {
  /** @type {Item[]} */
  #items = [];
  #head = 0;

  get size() {
    return this.#items.length - this.#head;
  }

  /** @param {Item} item */
  push(item) {
    this.#items.push(item);
  }

  /** @param {Item} item */
  unshift(item) {
    if (this.#head > 0) {
      this.#head -= 1;
      this.#items[this.#head] = item;
    } else {
      this.#items.unshift(item);
    }
  }

  /** @returns {Item | undefined} */
  shift() {
    const item = this.#items[this.#head];
    if (this.size === 0) {
      return undefined;
    }
    this.#head += 1;
    if (this.#head > 1000 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  clear() {
    this.#items = [];
    this.#head = 0;
  }
}
