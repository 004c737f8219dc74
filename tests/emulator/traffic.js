"use strict";
/* What happens to requests on their way: they are counted, slowed down, refused or cut off, as a test asked. */

const KINDS = {
  POST_QUERY: "query",
  POST_UPSERT: "upsert",
  POST_BATCH: "batch",
  POST: "create",
  GET: "read",
  PUT: "replace",
  PATCH: "patch",
  DELETE: "delete",
};
const DOCUMENTS = /^\/*dbs\/([^/]+)\/colls\/([^/]+)\/docs(\/|$)/;
const DATABASE = /^\/*dbs\/([^/]+)/;

const said = (req, header) => (req.headers[header] ?? "").toLowerCase() === "true";

const suffixOf = (req) => {
  if (said(req, "x-ms-documentdb-isquery") || req.headers["content-type"] === "application/query+json") return "_QUERY";
  if (said(req, "x-ms-documentdb-is-upsert")) return "_UPSERT";
  return said(req, "x-ms-cosmos-is-batch-request") ? "_BATCH" : "";
};

/** What a request is about; `operation` is `meta` when it is no operation on documents. */
const operationOf = (req) => {
  const path = req.url.split("?")[0];
  const [, database, container] = DOCUMENTS.exec(path) ?? [];
  if (!database) {
    const [, about = ""] = DATABASE.exec(path) ?? [];
    return { database: decodeURIComponent(about), container: "", operation: "meta" };
  }
  const operation = KINDS[req.method === "POST" ? `POST${suffixOf(req)}` : req.method];
  return { database: decodeURIComponent(database), container: decodeURIComponent(container), operation };
};

/** Requests by database, container and operation. */
class Counts {
  constructor() {
    this.databases = {};
  }

  add({ database, container, operation }) {
    const containers = (this.databases[database] ??= {});
    const operations = (containers[container] ??= {});
    operations[operation] = (operations[operation] ?? 0) + 1;
  }

  take(database) {
    const counts = this.databases[database] ?? {};
    delete this.databases[database];
    return counts;
  }
}

/** Faults that wait for their request, the oldest first; one that has struck `times` times is gone. */
class Faults {
  constructor() {
    this.waiting = [];
  }

  add(faults) {
    this.waiting.push(...faults);
  }

  clear() {
    this.waiting = [];
  }

  take(request) {
    const fault = this.waiting.find((each) => this._strikes(each, request));
    if (!fault) return undefined;
    fault.times -= 1;
    if (fault.times <= 0) this.waiting.splice(this.waiting.indexOf(fault), 1);
    return fault;
  }

  _strikes(fault, { database, container, operation }) {
    if (fault.database && fault.database !== database) return false;
    if (fault.container && fault.container !== container) return false;
    if (operation === "meta" && fault.operation !== "meta") return false;
    if (fault.operation && fault.operation !== operation) return false;
    if (fault.skip > 0) {
      fault.skip -= 1;
      return false;
    }
    return Math.random() < (fault.probability ?? 1);
  }
}

module.exports = { Counts, Faults, operationOf };
