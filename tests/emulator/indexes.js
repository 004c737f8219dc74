"use strict";
/*
 * Whether indexes serve a query. Azure answers most queries without one too, by reading every document; here they are
 * refused, so that each query which the tests reach has its index.
 */

const ALWAYS_INDEXED = new Set(["id", "_ts"]);

/** The expression's path of names from the document on, for instance ["quarantined"] for `c.quarantined[0]`. */
const pathOf = (node) => {
  if (node?.type === "identifier") return [];
  if (node?.type !== "scalar_member_expression") return undefined;
  const parent = pathOf(node.object);
  const name = node.computed ? undefined : node.property.name;
  return parent && (name === undefined ? parent : [...parent, name]);
};

/** The first names of all paths in an expression. */
const namesIn = (node) => {
  if (node === null || typeof node !== "object") return [];
  const path = pathOf(node);
  if (path?.length) return [path[0]];
  return Object.values(node).flatMap(namesIn);
};

const conjunctsOf = (node) =>
  node?.operator === "AND" ? [...conjunctsOf(node.left), ...conjunctsOf(node.right)] : node ? [node] : [];

const isEquality = ({ type, operator, left, right }) =>
  type === "scalar_binary_expression" && operator === "=" && Boolean(pathOf(left)?.length) && !namesIn(right).length;

const isSearchOfList = ({ type, name, arguments: args }) =>
  type === "scalar_function_expression" &&
  name.name.toUpperCase() === "ARRAY_CONTAINS" &&
  args[0].type === "parameter_name";

const searchesList = (node) =>
  node !== null && typeof node === "object" && (isSearchOfList(node) || Object.values(node).some(searchesList));

const indexedBy = (policy) => {
  const paths = (policy?.includedPaths ?? []).map(({ path }) => path);
  const names = new Set(paths.map((path) => path.split("/")[1].replaceAll('"', "")));
  return (name) => paths.includes("/*") || names.has(name) || ALWAYS_INDEXED.has(name);
};

/** Whether a composite index has exactly these properties, in these directions or in the opposite ones. */
const isComposite = (order, composites) =>
  composites.some(
    (index) =>
      index.length === order.length &&
      [1, -1].some((sign) =>
        index.every(({ path, order: way = "ascending" }, at) => {
          const wanted = order[at].descending === (sign < 0) ? "ascending" : "descending";
          return path === `/${order[at].name}` && way === wanted;
        }),
      ),
  );

/** Why no index serves a parsed query, or undefined. */
const unserved = ({ body }, policy, isOfPartition) => {
  const isIndexed = indexedBy(policy);
  const conjuncts = conjunctsOf(body.where?.condition);
  // One that is no alternative only leaves out some of what the partition's own index finds.
  const searches = isOfPartition ? conjuncts.filter((node) => !isSearchOfList(node)) : conjuncts;
  if (searches.some(searchesList)) return "ARRAY_CONTAINS of a given list may read every document: use IN";
  const order = (body.orderBy?.expressions ?? []).map(({ expression, order: way }) => ({
    name: pathOf(expression)?.[0],
    descending: way === "DESC",
  }));
  const missing = order.map(({ name }) => name).find((name) => !isIndexed(name));
  if (missing) return `no index has ${missing}`;
  const isSought = conjuncts.some((node) => namesIn(node).every(isIndexed));
  if (!isSought && (conjuncts.length > 0 || order.length === 0)) return "no condition has an index";
  if (order.length === 0) return undefined;
  const equal = conjuncts.filter(isEquality).map(({ left }) => pathOf(left)[0]);
  if (equal.length > 0 && !equal.includes(order[0].name)) return `ORDER BY does not begin with ${equal[0]}`;
  if (order.length === 1 || isComposite(order, policy?.compositeIndexes ?? [])) return undefined;
  return "no composite index has the properties of ORDER BY";
};

module.exports = { unserved };
