// Server-Sent Events, parsed from pieces of text.

/** @typedef {{id: string, type: string, data: any}} StreamEvent */

/** Parser of one stream. It keeps what came of an unfinished event. */
export class SseParser {
  constructor() {
    this.rest = "";
    this.looked = 0;
  }

  /**
   * Return the events that `text` completes. Comments are left out.
   *
   * @param {string} text
   * @returns {StreamEvent[]}
   */
  feed(text) {
    this.rest += text;
    const found = [];
    let begin = 0;
    let end = this.rest.indexOf("\n\n", this.looked);
    while (end >= 0) {
      const event = parse(this.rest.slice(begin, end));
      if (event) found.push(event);
      begin = end + 2;
      end = this.rest.indexOf("\n\n", begin);
    }
    if (begin > 0) this.rest = this.rest.slice(begin);
    this.looked = Math.max(0, this.rest.length - 1);
    return found;
  }
}

/** @param {string} block @returns {StreamEvent | null} */
function parse(block) {
  let id = "";
  let type = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("data: ")) data += line.slice(6);
    else if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("event: ")) type = line.slice(7);
  }
  return data ? { id, type, data: JSON.parse(data) } : null;
}
