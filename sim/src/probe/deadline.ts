/**
 * A timer that does not blame the network for our own slowness.
 *
 * Node runs timers before it looks at sockets. After a long pause of the event loop (a burst of work in the API server) a
 * timeout would fire although its answer already waits in the socket. So when time is up, the loop gets two more rounds to
 * deliver what has arrived, and only then is the deadline past.
 */
export function deadline(ms: number, onPast: () => void): Disposable {
  let done = false;
  const timer = setTimeout(() => {
    setImmediate(() =>
      setImmediate(() => {
        if (done) return;
        done = true;
        onPast();
      }),
    );
  }, ms);
  return {
    [Symbol.dispose]: () => {
      done = true;
      clearTimeout(timer);
    },
  };
}
