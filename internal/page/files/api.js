// What is asked of the peer, and what it tells. One tab holds the stream of events and tells the others: a browser has six connections
// to a host, for all tabs together.

/** Failed is an answer that is no success: code, what, cause, next as on the command line. */
export class Failed extends Error {
  constructor(f) {
    super(f.what);
    Object.assign(this, f);
  }
}

const away = { code: "E-NO-PEER", what: "the peer does not answer", cause: "it was stopped, or this machine cannot reach it", next: "shoal peer" };

/** ask sends a request below /api/v1 and returns what is answered. */
export async function ask(method, path, body, more = {}) {
  const o = { method, credentials: "same-origin", cache: "no-store", ...more };
  if (method !== "GET") {
    o.headers = { "Content-Type": "application/json" };
    o.body = JSON.stringify(body ?? {});
  }
  let resp;
  try {
    resp = await fetch("/api/v1" + path, o);
  } catch {
    throw new Failed(away);
  }
  if (resp.status === 204) return null;
  let v = null;
  try {
    v = await resp.json();
  } catch { /* cut short, or none of ours */ }
  if (!resp.ok || v === null) throw new Failed({ ...away, what: "the answer cannot be read", ...v, status: resp.status });
  return v;
}

const kinds = ["snapshot", "transfer", "removed", "stats", "log"];
const silence = 6000; // after which the stream is taken for dead: figures come four times a second
const retry = 2000;

/**
 * follow calls on(kind, data) for each event for as long as the page lives, and state("open" | "lost" | "out") when that changes.
 * @param {(kind: string, data: any) => void} on
 * @param {(s: string) => void} state
 * @param {() => any} snapshot what this tab knows, for a tab that comes
 */
export function follow(on, state, snapshot) {
  const channel = new BroadcastChannel("shoal");
  let leads = false, heard = 0, now = "";
  const become = (s) => {
    if (s !== now) state(now = s);
    if (leads) channel.postMessage({ state: s });
  };
  const take = (kind, data) => {
    heard = Date.now();
    on(kind, data);
    become("open");
  };
  channel.onmessage = ({ data: m }) => {
    if (m.want && leads && now === "open") channel.postMessage({ kind: "snapshot", data: snapshot() });
    else if (m.kind && !leads) take(m.kind, m.data);
    else if (m.state && m.state !== "open" && !leads) become(m.state);
  };
  const lead = () => new Promise(() => { // for as long as this tab lives
    leads = true;
    stream((kind, data) => {
      take(kind, data);
      channel.postMessage({ kind, data });
    }, become);
  });
  if (navigator.locks) {
    navigator.locks.request("shoal-stream", lead);
    channel.postMessage({ want: true });
    setInterval(() => {
      if (leads || Date.now() - heard < silence) return;
      if (now !== "out" && heard) become("lost");
      channel.postMessage({ want: true });
    }, retry);
  } else lead();
}

// stream holds one stream, and makes another when it ends.
function stream(on, become) {
  let source = null, heard = 0;
  const open = () => {
    heard = Date.now();
    source = new EventSource("/api/v1/events");
    for (const kind of kinds) {
      source.addEventListener(kind, (e) => {
        heard = Date.now();
        on(kind, JSON.parse(e.data));
      });
    }
    source.addEventListener("resync", again);
    source.onerror = lost;
  };
  const again = () => {
    source?.close();
    open();
  };
  const lost = async () => {
    source?.close();
    source = null;
    try {
      await ask("GET", "/limits"); // the stream does not tell why it ended
      become("lost");
    } catch (f) {
      become(f.status === 401 ? "out" : "lost");
    }
    setTimeout(open, retry);
  };
  setInterval(() => {
    if (source && Date.now() - heard > silence) lost();
  }, 1000);
  open();
}
