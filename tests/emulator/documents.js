"use strict";
/*
 * The documents of a container, as the package keeps them in two maps, with what it lacks: changes that stand or fall
 * together, queries that keep to one logical partition, reads that lag behind, and times to live.
 */

const { default: Documents } = require("@vercel/cosmosdb-server/lib/account/documents");
const { unserved } = require("./indexes");
const { narrow } = require("./narrow");

const OPPOSITE = { ascending: "descending", descending: "ascending" };

/** A composite index read from its end: it serves that order too. */
const reversed = (index) => index.map(({ path, order }) => ({ path, order: OPPOSITE[order] }));

/** A map that tells what it held before each change. */
class Recorded extends Map {
  set(key, value) {
    this.record?.(this, key, this.get(key));
    return super.set(key, value);
  }

  delete(key) {
    this.record?.(this, key, this.get(key));
    return super.delete(key);
  }
}

/** Items by resource id, and by partition besides. */
class Rows extends Recorded {
  constructor(partitionOf) {
    super();
    this.partitions = new Map();
    this.partitionOf = (item) => JSON.stringify([partitionOf(item.read())]);
  }

  set(rid, item) {
    this._forget(rid);
    const partition = this.partitionOf(item);
    if (!this.partitions.has(partition)) this.partitions.set(partition, new Map());
    this.partitions.get(partition).set(rid, item);
    return super.set(rid, item);
  }

  delete(rid) {
    this._forget(rid);
    return super.delete(rid);
  }

  /** The items of a partition, or of all. */
  in(partition) {
    return partition === undefined ? this : this.partitions.get(partition) ?? new Map();
  }

  _forget(rid) {
    const item = this.get(rid);
    if (!item) return;
    const partition = this.partitionOf(item);
    const rows = this.partitions.get(partition);
    rows.delete(rid);
    if (rows.size === 0) this.partitions.delete(partition);
  }
}

/** Takes back what `change` did; thrown inside `atOnce`. */
class Rollback extends Error {}

/** What changed in the last `keepMs`, so that a read can look behind it. */
class Past {
  constructor(keepMs) {
    this.keepMs = keepMs;
    this.changes = [];
  }

  add(at, undo) {
    const expired = this.changes.findIndex((change) => change.at > at - this.keepMs);
    this.changes.splice(0, expired < 0 ? this.changes.length : expired);
    for (const { key, before } of undo) this.changes.push({ at, rid: key, before });
  }

  /** What stood `lagMs` ago, by resource id, where it differs from now: undefined if nothing stood. */
  since(lagMs) {
    const moment = performance.now() - lagMs;
    const before = new Map();
    for (let i = this.changes.length - 1; i >= 0 && this.changes[i].at > moment; i -= 1) {
      before.set(this.changes[i].rid, this.changes[i].before);
    }
    return before;
  }
}

/** Rows for the query engine, whose compiled code folds them into one array and copies it for each row that it adds. */
const foldable = (rows) => Object.assign(rows, { reduce: (append) => rows.flatMap((row) => append([], row)) });

/** The class that stands in for the package's own; */
const documentsWith = (options) =>
  class extends Documents {
    constructor(...args) {
      super(...args);
      this._data = new Rows((data) => this._getPartition(data));
      this._index = new Recorded();
      this._past = new Past(options.lagMs);
      this._undo = null;
    }

    /** Run `change`; whatever it throws, nothing of it stays. Readers see all of it or nothing. */
    atOnce(change) {
      if (this._undo) return change();
      const undo = [];
      const record = (map, key, before) => undo.push({ map, key, before });
      this._undo = undo;
      this._data.record = record;
      this._index.record = record;
      try {
        const result = change();
        this._past.add(performance.now(), undo.filter(({ map }) => map === this._data));
        return result;
      } catch (error) {
        this._data.record = undefined;
        this._index.record = undefined;
        for (const { map, key, before } of undo.reverse()) {
          if (before === undefined) map.delete(key);
          else map.set(key, before);
        }
        throw error;
      } finally {
        this._undo = null;
        this._data.record = undefined;
        this._index.record = undefined;
      }
    }

    /** Whether a document's time to live is over. An expired one stays in the maps, where nothing finds it. */
    _expired(data) {
      const { defaultTtl } = this._parent.read();
      const ttl = defaultTtl === undefined ? -1 : data.ttl ?? defaultTtl;
      return ttl >= 0 && data._ts + ttl < options.clock.seconds();
    }

    _set(data) {
      return super._set({ ...data, _ts: options.clock.seconds() });
    }

    _item(...args) {
      const item = super._item(...args);
      const data = item.read();
      return data && this._expired(data) ? this._newItem() : item;
    }

    create(data) {
      return this.atOnce(() => super.create(data));
    }

    replace(data, original) {
      return this.atOnce(() => super.replace(data, original));
    }

    delete(id, partition) {
      return this.atOnce(() => super.delete(id, partition));
    }

    /** Keep the queries that `work` makes to a partition: the package's own patch condition names the id alone. */
    within(partition, work) {
      this._scope = partition;
      try {
        return work();
      } finally {
        this._scope = undefined;
      }
    }

    query({ query, parameters }, { maxItemCount, continuation }, partition = this._scope, lagMs = 0) {
      const parsed = this._getQuery(query);
      const rows = foldable(narrow(this._seen(partition, lagMs), parsed.ast, parameters));
      const { indexingPolicy } = this._parent.read();
      const reason = options.indexes && unserved(parsed.ast, indexingPolicy, partition !== undefined);
      if (reason) throw Object.assign(new Error(`${reason}: ${query}`), { badRequest: true });
      const compositeIndexes = (indexingPolicy?.compositeIndexes ?? []).flatMap((index) => [index, reversed(index)]);
      try {
        return parsed.exec(rows, { parameters, maxItemCount, continuation, compositeIndexes });
      } catch (error) {
        error.badRequest = true;
        throw error;
      }
    }

    /** One document as it stood, or undefined. */
    find(id, partition, lagMs = 0) {
      if (lagMs === 0) return this._item("/id", id, JSON.parse(partition)[0]).read();
      return this._seen(partition, lagMs).find((data) => data.id === id);
    }

    /** The documents of a partition, or of all, as they stand or stood. */
    _seen(partition, lagMs) {
      const now = this._data.in(partition);
      if (lagMs === 0) return Array.from(now.values(), (item) => item.read()).filter((data) => !this._expired(data));
      const before = this._past.since(lagMs);
      const kept = [...now].filter(([rid]) => !before.has(rid)).map(([, item]) => item);
      const stood = [...before.values()].filter(
        (item) => item && (partition === undefined || this._data.partitionOf(item) === partition),
      );
      return [...kept, ...stood].map((item) => item.read()).filter((data) => !this._expired(data));
    }
  };

module.exports = { Rollback, documentsWith };
