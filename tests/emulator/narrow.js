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

const membership = ({ value, list }, values) => {
  const [property, wanted] = [propertyOf(value), list.map((each) => valueOf(each, values))];
  if (property === undefined || !wanted.every((each) => COMPARABLE.includes(typeof each))) return ANY;
  const set = new Set(wanted);
  return { may: (row) => set.has(row[property]), exact: true };
};

/** Whether a row may hold a condition; and whether that is the whole condition. */
const testOf = (node, values) => {
  if (node.type === "scalar_in_expression") return membership(node, values);
  if (node.type !== "scalar_binary_expression") return ANY;
  if (node.operator !== "AND" && node.operator !== "OR") return comparison(node, values);
  const [left, right] = [testOf(node.left, values), testOf(node.right, values)];
  const exact = left.exact && right.exact;
  if (node.operator === "AND") return { may: (row) => left.may(row) && right.may(row), exact };
  return { may: (row) => left.may(row) || right.may(row), exact };
};

/** Of all rows that match, those that TOP and ORDER BY leave. */
const topOf = (rows, { top, orderBy }, values) => {
  const count = top && valueOf(top.value, values);
  const orders = (orderBy?.expressions ?? []).map(({ expression, order }) => ({
    name: propertyOf(expression),
    sign: order === "DESC" ? -1 : 1,
  }));
  if (typeof count !== "number" || orders.length === 0) return rows;
  for (const { name } of orders) {
    const type = typeof rows[0]?.[name];
    if (name === undefined || !COMPARABLE.includes(type) || rows.some((row) => typeof row[name] !== type)) return rows;
  }
  const compare = (a, b) => {
    const { name, sign } = orders.find((order) => a[order.name] !== b[order.name]) ?? orders[0];
    return a[name] < b[name] ? -sign : Number(a[name] > b[name]) * sign;
  };
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
