// SPDX-License-Identifier: MIT
// What test_browser.py asks of a page: expressions that are evaluated in it.
({
  // What is cut off, outside of its box, or over something else; tables may be wider, and are scrolled.
  notShown() {
    const found = [], scrolled = ".table, svg";
    const pixels = document.documentElement.scrollWidth;
    if (pixels > innerWidth) found.push(`the page has ${pixels} pixels`);
    for (const one of document.querySelectorAll("main *")) {
      if (!one.checkVisibility() || one.closest("svg")) continue;
      const box = one.closest(".service, .figure"), own = one.getBoundingClientRect();
      if (box && box !== one) {
        const outer = box.getBoundingClientRect();
        if (own.left < outer.left - 1 || own.right > outer.right + 1) found.push(`outside: ${one.textContent}`);
      }
      const isInline = getComputedStyle(one).display === "inline";
      if (one.scrollWidth > one.clientWidth + 1 && !isInline && !one.matches(scrolled))
        found.push(`cut off: ${one.tagName} ${one.textContent}`);
    }
    for (const one of document.querySelectorAll("#events td:last-child"))
      if (one.getBoundingClientRect().right > innerWidth) found.push(`beyond the window: ${one.textContent}`);
    for (const list of document.querySelectorAll("dl")) {
      const boxes = [...list.children].map(one => one.getBoundingClientRect());
      const overlap = boxes.some((one, i) => i && boxes[i - 1].top === one.top && boxes[i - 1].right > one.left);
      if (overlap) found.push(`figures overlap: ${list.textContent}`);
    }
    return found;
  },

  // Texts whose contrast is less than so much: WCAG 2.2, "relative luminance" and "contrast ratio".
  faint(least) {
    const parse = text => text.match(/[\d.]+/g).map(Number);
    const linear = one => one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const behind = one => {
      for (; one; one = one.parentElement) {
        const [r, g, b, alpha = 1] = parse(getComputedStyle(one).backgroundColor);
        if (alpha) return [r, g, b];
      }
      return [255, 255, 255];
    };
    const found = {};
    for (const one of document.querySelectorAll("main *")) {
      const hasText = [...one.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
      if (!hasText || !one.checkVisibility()) continue;
      const pair = [luminance(parse(getComputedStyle(one).color)), luminance(behind(one))];
      const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      if (contrast < least) found[`${one.tagName}.${one.className}`] = contrast;
    }
    return found;
  },

  // Where the focus is: the table, the text, and whether it is seen.
  focus() {
    const one = document.activeElement, style = getComputedStyle(one);
    const isSeen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return [one.closest("table")?.id ?? one.tagName, one.textContent, isSeen];
  },

  // What can be pressed, in the order in which it is seen.
  buttons() {
    const seen = [...document.querySelectorAll("button, a, input, select")].filter(one => one.checkVisibility());
    return seen.map(one => [one.closest("table")?.id ?? one.tagName, one.textContent]);
  },

  // Each service: the classes of its box, and its figures by their names.
  services() {
    const pairs = [...document.querySelectorAll(".service")].map(one => {
      const figures = [...one.querySelectorAll("dl > div")].map(pair => [...pair.children].map(half => half.textContent));
      return [one.querySelector("h3 span").textContent, { state: one.className, ...Object.fromEntries(figures) }];
    });
    return Object.fromEntries(pairs);
  },

  column(table, number) {
    return [...document.getElementById(table).tBodies[0].rows].map(row => row.cells[number].textContent);
  },
})
