/*
 * wait - every wait of the tests has an end and says what it waited for
 */

const started = Date.now();

/* SEANCE_TEST_PATIENCE=10: all waits ten times as long (sanitizers, valgrind) */
export const patience = Number(process.env.SEANCE_TEST_PATIENCE ?? 1);

/* within - the promise's value, or an error that names `what` after ms milliseconds */
export async function within(promise, what, ms = 5000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms * patience} ms in vain for ${typeof what === "function" ? what() : what}`)), ms * patience);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/* until - polls check() until it gives something truthy, which is returned */
export async function until(check, what, ms = 5000, every = 20) {
  const end = Date.now() + ms * patience;
  let failure;
  for (;;) {
    try {
      const value = await check();
      if (value) return value;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > end) {
      const why = failure ? `: ${failure.message}` : "";
      throw new Error(`waited ${ms * patience} ms in vain for ${typeof what === "function" ? what() : what}${why}`);
    }
    await new Promise((done) => setTimeout(done, every));
  }
}

/* deferred - a promise and the functions that settle it */
export function deferred() {
  const d = {};
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  return d;
}

/* note - a line for whoever reads the test's output, with the time since the start */
export function note(text) {
  if (process.env.SEANCE_TEST_VERBOSE) console.error(`# ${((Date.now() - started) / 1000).toFixed(3)} ${text}`);
}
