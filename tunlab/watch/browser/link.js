// The line to `./lab watch`: events come by one stream, requests go by POST, one after the other in each queue.

let page = "";

/** Hear every event by its kind; `lost` is called once the stream has broken, and nothing is tried again. */
export function listen(hears, lost) {
  const source = new EventSource("events");
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.kind === "hello") page = event.page;
    hears[event.kind]?.(event);
  };
  source.onerror = () => {
    source.close(); // another stream would be another page, without this one's shells
    lost();
  };
  return () => source.close();
}

/** Whether this page asked for what is told. */
export function isOurs(event) {
  return event.by === page;
}

/** Ask for something; the answer, or an Error with the message that came back. */
export async function ask(what, arguments_ = {}) {
  const response = await fetch("do", {
    method: "POST",
    headers: { "X-Tunlab": "watch", "Content-Type": "application/json" },
    body: JSON.stringify({ page, do: what, ...arguments_ }),
  });
  if (!response.ok) throw new Error((await response.text()).trim());
  const answer = await response.json();
  if (answer.error) throw new Error(answer.hint ? `${answer.error} (${answer.hint})` : answer.error);
  return answer;
}

/** Whatever is sent through one of these arrives in order, what waits together in one request. */
export function inOrder(send) {
  let waiting = [];
  let busy = false;
  async function run() {
    busy = true;
    while (waiting.length) {
      const all = waiting;
      waiting = [];
      try { await send(all.join("")); } catch { waiting = []; } // the shell has ended: its sheet says so
    }
    busy = false;
  }
  return (text) => {
    waiting.push(text);
    if (!busy) run();
  };
}
