/*
 * seance.d.ts - what seance.js does
 */

/**
 * A socket, connecting.  It carries any number of channels, and connects again by itself until `disconnect()`.
 * `url` is the mount: a path of this site, or http(s):// or ws(s)://.
 *
 * By WebSocket; where none can be opened, by server-sent events and POST; where that cannot be either (private state,
 * more than three channels, something between that holds streams back), by long-poll.  What works is kept to; a
 * WebSocket is tried again when the browser is online again.
 */
export function connect(url: string | URL, options?: Options): Socket;

export interface Options {
  /** What connect and authorize see as parameters; a function is asked for each request. */
  params?: Given<Record<string, string | number | boolean>>;
  /** Other constructors, where there are no global ones. Without EventSource there are no server-sent events. */
  WebSocket?: unknown;
  EventSource?: unknown;
  /** Where the HTTP API is, seen from the mount as a folder: "../channels" */
  api?: string;
}

/** A value, or a function that is asked for it each time. */
export type Given<T> = T | (() => T);

export interface Socket {
  /** "open" once the server has answered. */
  readonly status: "connecting" | "open" | "closed";
  /** At each change of `status`. */
  onstatus?: ((status: Socket["status"]) => void) | null;
  /** A channel, joining. `payload` is the join's; by server-sent events it is a part of the query, all of it text. */
  channel<State = any>(topic: string, payload?: Given<object>): Channel<State>;
  /** Ends it for good, and its channels; what waits in them is rejected. */
  disconnect(): void;
}

/** Who is there: for each key what its joins say of themselves. */
export type Present = Record<string, ({ phx_ref: string } & Record<string, any>)[]>;

export interface Channel<State = any> {
  readonly topic: string;
  /** The present state; undefined before the first.  It is replaced, not changed: what a patch does not touch stays the same object. */
  readonly state: State | undefined;
  readonly version: number | undefined;
  readonly status: "joining" | "joined" | "refused" | "lost" | "left";
  /** On topics with presence; else {}. */
  readonly present: Present;

  /** After each change of `state` or `version`. */
  onchange?: ((state: State, version: number) => void) | null;
  /** At each change of `status`. After "refused" and "lost" it joins again by itself; "lost" is also a patch that does not fit. */
  onstatus?: ((status: Channel["status"], reason?: Error) => void) | null;
  /** After each change of `present`. */
  onpresent?: ((present: Present) => void) | null;
  /** An error that the server tells (seance:error). */
  onerror?: ((payload: any) => void) | null;

  /** Listens to an event from the server; gives a function that stops it. */
  on(name: string, listener: (detail: any) => void): () => void;

  /**
   * Sends an event, or keeps it until the channel is joined: what is pushed is done once, in order, also when the
   * connection breaks meanwhile.  Fulfilled when its effect is in `state` and the events that it causes have been given
   * to their listeners.  By POST only objects can be sent.
   *
   * Rejected with a Refused when the server refuses it; with another Error when the channel's code has crashed, when
   * the channel was left, or when 1,000 wait already.
   */
  push(name: string, payload?: unknown): Promise<void>;

  /** Ends the channel; what waits in it is rejected. */
  leave(): void;
}

/** What the server has refused: an event, or a join. `message` is made of it. */
export class Refused extends Error {
  constructor(reason: unknown);
  readonly reason: any;
}

export interface Operation {
  op: string;
  path: string;
  from?: string;
  value?: unknown;
}

/** RFC 6902, without `test`: the new state; the old one is left as it is. Throws when an operation cannot be applied. */
export function applyPatch(state: any, operations: Operation[]): any;
