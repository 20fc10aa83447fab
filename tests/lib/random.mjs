/* random - a generator of numbers below n that can be repeated */
export function random(seed) {
  let state = BigInt(seed);
  return (n) => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
    return Number((state >> 33n) % BigInt(n));
  };
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));
