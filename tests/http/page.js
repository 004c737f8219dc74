"use strict";
// Renders the documentation page without a browser: its script on a document that is just big enough for it. Prints, as
// JSON, what stands in each element that the page fills: {id: node}, a node being {tag, attributes, children}, or text.

const fs = require("node:fs");
const vm = require("node:vm");

const [page, openapi] = process.argv.slice(2).map((file) => fs.readFileSync(file, "utf8"));

class Element {
  constructor(tag) {
    Object.assign(this, { tag, attributes: {}, children: [], selectedIndex: 0 });
  }

  set textContent(text) {
    this.children = [text];
  }

  setAttribute(name, value) {
    this.attributes[name] = value;
  }

  append(...children) {
    this.children.push(...children);
  }

  replaceChildren(...children) {
    this.children = children;
  }

  toJSON() {
    return { tag: this.tag, attributes: this.attributes, children: this.children };
  }
}

const filled = {};
const document = {
  createElement: (tag) => new Element(tag),
  getElementById: (id) => (filled[id] ??= new Element("section")),
  querySelector: () => new Element("a"),
};

vm.runInNewContext(page.match(/<script>(.*)<\/script>/s)[1], {
  document,
  location: { pathname: "/events/api/v1/docs", hash: "" },
  fetch: async () => ({ json: async () => JSON.parse(openapi) }),
  addEventListener: () => {},
});
process.once("beforeExit", () => process.stdout.write(JSON.stringify(filled)));
