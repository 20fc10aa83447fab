/*
 * event_source - the browsers' EventSource (HTML standard, 9.2) for Node: what seance.js uses of it
 */
const RETRY_MS = 100;

export class EventSource extends EventTarget {
  static CLOSED = 2;
  readyState = 0;
  lastEventId = "";
  #url;
  #stop = new AbortController();
  #timer;

  constructor(url) {
    super();
    this.#url = url;
    this.#connect();
  }

  close() {
    this.readyState = 2;
    clearTimeout(this.#timer);
    this.#stop.abort();
  }

  async #connect() {
    try {
      const headers = { accept: "text/event-stream", ...(this.lastEventId && { "last-event-id": this.lastEventId }) };
      const response = await fetch(this.#url, { headers, signal: this.#stop.signal });
      if (response.status !== 200) this.close();
      else await this.#read(response);
    } catch {
      // the network, or close()
    }
    if (this.readyState !== 2) {
      this.readyState = 0;
      this.#timer = setTimeout(() => this.#connect(), RETRY_MS);
    }
    this.onerror?.({});
  }

  async #read(response) {
    this.readyState = 1;
    this.onopen?.({});
    let text = "";
    for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
      text += part;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) this.#take(text.slice(0, end));
    }
  }

  #take(block) {
    const { event, id = this.lastEventId, data } = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
    this.lastEventId = id;
    if (event) this.dispatchEvent(Object.assign(new Event(event), { data, lastEventId: id }));
  }
}
