"use strict";
/* The emulator's own clock, which a test moves forward: it stamps documents and answers, and ends times to live. */

class Clock {
  constructor() {
    this.aheadMs = 0;
  }

  advance(seconds) {
    this.aheadMs += seconds * 1000;
  }

  reset() {
    this.aheadMs = 0;
  }

  date() {
    return new Date(Date.now() + this.aheadMs);
  }

  /** Whole seconds since the epoch, as `_ts` has them. */
  seconds() {
    return Math.floor(this.date().getTime() / 1000);
  }
}

module.exports = { Clock };
