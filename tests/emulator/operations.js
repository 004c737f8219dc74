"use strict";
/* What a request does to documents: the package's operations, answered as Azure answers where the package does not. */

const operations = require("@vercel/cosmosdb-server/lib/handler/_document-operations");
const { patchOperation } = require("@vercel/cosmosdb-server/lib/handler/_patch-operations");
const { default: readItems } = require("@vercel/cosmosdb-server/lib/handler/_read-items");
const { default: json } = require("@vercel/cosmosdb-server/lib/json");
const { default: isTrue } = require("@vercel/cosmosdb-server/lib/true-header");
const { Rollback } = require("./documents");

const BATCH_OPERATIONS = 100;
const PATCH_OPERATIONS = 10;
const PAGE_BYTES = 4 * 1024 * 1024;
const PAGE_ROWS = 100;
const BY_TYPE = {
  Create: operations.createOperation,
  Upsert: operations.upsertOperation,
  Read: operations.readOperation,
  Delete: operations.deleteOperation,
  Replace: operations.replaceOperation,
  Patch: (collection, input) => patchOperation(collection, { ...input, ...input.resourceBody }),
};

const refuse = (res, statusCode, code, message) => {
  res.statusCode = statusCode;
  return { code, message };
};

const OWNER_NOT_FOUND = 1003;

const notFound = (res) => refuse(res, 404, "NotFound", "Entity with the specified id does not exist in the system.");

/** A handler that is only asked about containers that exist; it also gets the partition key, as the header has it. */
const inContainer = (handler) => async (account, req, res, params) => {
  const collection = account.database(params.dbId).collection(params.collId);
  if (!collection.read()) {
    res.setHeader("x-ms-substatus", OWNER_NOT_FOUND);
    return notFound(res);
  }
  const header = req.headers["x-ms-documentdb-partitionkey"];
  const partition = header && JSON.stringify(JSON.parse(header));
  return handler({ collection, req, res, id: params.docId, partition });
};

const partitionOf = (collection, body) => JSON.stringify([collection.documents._getPartition(body)]);

/** One operation on one document, as `{statusCode, body}`. */
const apply = (collection, partition, type, input) => {
  const body = type === "Patch" ? undefined : input.resourceBody;
  if (body && partitionOf(collection, body) !== partition) {
    const message = "PartitionKey extracted from document doesn't match the one specified in the header";
    return { statusCode: 400, body: { code: "BadRequest", message } };
  }
  if (type === "Replace" && body.id !== input.id) {
    return { statusCode: 400, body: { code: "BadRequest", message: "replacing id is not allowed" } };
  }
  const { documents } = collection;
  return documents.within(partition, () => BY_TYPE[type](collection, { ...input, partitionKey: partition }));
};

const write = (type) =>
  inContainer(async ({ collection, req, res, id, partition }) => {
    const body = type === "Delete" ? undefined : await json(req);
    // A patch without a condition is a bare list.
    const resourceBody = type === "Patch" && Array.isArray(body) ? { operations: body } : body;
    if (type === "Patch" && resourceBody.operations.length > PATCH_OPERATIONS) {
      return refuse(res, 400, "BadRequest", "The number of patch operations exceeds the limit.");
    }
    const input = { id: id ?? body?.id, ifMatch: req.headers["if-match"], resourceBody };
    const result = apply(collection, partition, type, input);
    res.statusCode = result.statusCode;
    if (result.statusCode >= 400 || req.headers.prefer !== "return=minimal") return result.body;
    if (result.body) res.setHeader("etag", result.body._etag);
    return undefined;
  });

const inTurn = (collection, partition, inputs) => {
  const results = [];
  for (const input of inputs) {
    if (results.at(-1)?.statusCode >= 400) results.push({ statusCode: 424 });
    else results.push(apply(collection, partition, input.operationType, input));
  }
  return results;
};

const allOrNothing = (collection, partition, inputs) => {
  let results;
  try {
    collection.documents.atOnce(() => {
      results = inTurn(collection, partition, inputs);
      if (results.some(({ statusCode }) => statusCode >= 400)) throw new Rollback();
    });
  } catch (error) {
    if (!(error instanceof Rollback)) throw error;
    results = results.map((result) => (result.statusCode < 400 ? { statusCode: 424 } : result));
  }
  return results;
};

const batch = (options) =>
  inContainer(async ({ collection, req, res, partition }) => {
    const inputs = await json(req);
    if (!Array.isArray(inputs) || inputs.length === 0 || inputs.some((input) => !(input.operationType in BY_TYPE))) {
      return refuse(res, 400, "BadRequest", "This is no batch.");
    }
    if (inputs.length > BATCH_OPERATIONS) {
      return refuse(res, 400, "BadRequest", "Batch request has more operations than what is supported.");
    }
    const run = options.mode === "prefix" ? inTurn : allOrNothing;
    const results = run(collection, partition, inputs);
    res.statusCode = results.every(({ statusCode }) => statusCode < 400) ? 200 : 207;
    return results.map(({ statusCode, body }) =>
      statusCode < 400
        ? { statusCode, requestCharge: 1, eTag: body?._etag, resourceBody: body }
        : { statusCode, requestCharge: 0 },
    );
  });

/** How far behind this read is: another one may be further, or less far. */
const lagOf = (options) => (options.mode === "lagging" ? Math.random() * options.lagMs : 0);

const read = (options) =>
  inContainer(async ({ collection, res, id, partition }) => {
    const found = collection.documents.find(id, partition, lagOf(options));
    return found ?? notFound(res);
  });

/** As many rows as a page of 4 MB holds, at least one. */
const fitting = (rows) => {
  let bytes = 0;
  const full = rows.findIndex((row, index) => {
    bytes += Buffer.byteLength(JSON.stringify(row));
    return bytes > PAGE_BYTES && index > 0;
  });
  return full < 0 ? rows.length : full;
};

const query = (options) =>
  inContainer(async ({ collection, req, res, partition }) => {
    const body = await json(req);
    if (!partition && !isTrue(req, "x-ms-documentdb-query-enablecrosspartition")) {
      return refuse(res, 400, "BadRequest", "Cross partition query is required but disabled.");
    }
    const lagMs = lagOf(options);
    return readItems(req, res, "Documents", async ({ maxItemCount, continuation }) => {
      try {
        const ask = (count) =>
          collection.documents.query(body, { maxItemCount: count, continuation }, partition, lagMs);
        const page = ask(maxItemCount < 0 ? null : maxItemCount ?? PAGE_ROWS);
        const count = fitting(page.result);
        return count < page.result.length ? ask(count) : page;
      } catch (error) {
        return error.badRequest ? refuse(res, 400, "BadRequest", error.message) : Promise.reject(error);
      }
    });
  });

/** The handlers by the names of the package's own modules. */
module.exports = (options) => ({
  "batch-documents": batch(options),
  "create-document": write("Create"),
  "delete-document": write("Delete"),
  "patch-document": write("Patch"),
  "query-documents": query(options),
  "read-document": read(options),
  "replace-document": write("Replace"),
  "upsert-document": write("Upsert"),
});
