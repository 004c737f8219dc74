"use strict";
/*
 * What an index is for: rows that cannot be in the answer are left out before the query engine looks at each of them,
 * which takes it microseconds a row. A row in doubt is kept: what matches is for the engine to say.
 */

const COMPARE = {
  "=": (a, b) => a === b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};
const COMPARABLE = ["number", "string"];
const ANY = { may: () => true, exact: false };

/** The name of the property of a row that an expression is, or undefined. */
const propertyOf = ({ type, object, property }) =>
  type === "scalar_member_expression" && object.type === "identifier" ? property.name ?? property.value : undefined;

const valueOf = ({ type, name, value }, values) => (type === "parameter_name" ? values.get(name) : value);

const comparison = ({ left, operator, right }, values) => {
  const [name, compare, value] = [propertyOf(left), COMPARE[operator], valueOf(right, values)];
  if (name === undefined || !compare || !COMPARABLE.includes(typeof value)) return ANY;
  return { may: (row) => typeof row[name] === typeof value && compare(row[name], value), exact: true };
};

const membership = ({ name, arguments: [list, member, ...rest] }, values) => {
  if (name.name.toUpperCase() !== "ARRAY_CONTAINS" || rest.length > 0) return ANY;
  const [property, wanted] = [propertyOf(member), valueOf(list, values)];
  if (property === undefined || !Array.isArray(wanted) || !wanted.every((each) => typeof each === "string")) return ANY;
  const set = new Set(wanted);
  return { may: (row) => set.has(row[property]), exact: true };
};

/** Whether a row may hold a condition; and whether that is the whole condition. */
const testOf = (node, values) => {
  if (node.type === "scalar_function_expression") return membership(node, values);
  if (node.type !== "scalar_binary_expression") return ANY;
  if (node.operator !== "AND" && node.operator !== "OR") return comparison(node, values);
  const [left, right] = [testOf(node.left, values), testOf(node.right, values)];
  const exact = left.exact && right.exact;
  if (node.operator === "AND") return { may: (row) => left.may(row) && right.may(row), exact };
  return { may: (row) => left.may(row) || right.may(row), exact };
};

/** Of all rows that match, those that TOP and ORDER BY of one property leave. */
const topOf = (rows, { top, orderBy }, values) => {
  const count = top && valueOf(top.value, values);
  const [order, ...others] = orderBy?.expressions ?? [];
  const name = order && propertyOf(order.expression);
  if (typeof count !== "number" || name === undefined || others.length > 0) return rows;
  const type = typeof rows[0]?.[name];
  if (!COMPARABLE.includes(type) || rows.some((row) => typeof row[name] !== type)) return rows;
  const sign = order.order === "DESC" ? -1 : 1;
  const compare = (a, b) => (a[name] < b[name] ? -sign : Number(a[name] > b[name]) * sign);
  return rows.sort(compare).slice(0, count);
};

/** The rows among which is the whole answer to a parsed query. */
const narrow = (rows, { body }, parameters = []) => {
  if (!body.from || body.from.joins.length > 0) return rows;
  const values = new Map(parameters.map(({ name, value }) => [name, value]));
  const { may, exact } = body.where ? testOf(body.where.condition, values) : { may: () => true, exact: true };
  const left = rows.filter(may);
  return exact ? topOf(left, body, values) : left;
};

module.exports = { narrow };
