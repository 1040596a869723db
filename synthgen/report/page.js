"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const make = (tag, kind, text) => {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const classOf = new Map(data.classes.map((item) => [item.id, item]));
  const className = (id) => (classOf.has(id) ? classOf.get(id).name : "scene");
  const rgb = (colour) => `rgb(${colour.join(",")})`;
  const words = (text) => text.replaceAll("_", " ");
  const short = (value) => String(Number.isInteger(value) ? value : Number(value.toPrecision(3)));
  const option = (select, value, text) => {
    const item = make("option", "", text === undefined ? value : text);
    item.value = value;
    select.append(item);
  };

  // masks

  const numSteps = Math.max(0, ...data.cards.map((card) => card.masks.length));
  const stepNames = ["off", ...data.steps.slice(0, numSteps)];
  for (const id of ["step", "large-step"]) {
    at(id).max = String(numSteps);
    at(id).value = String(numSteps);
    at(id).parentElement.hidden = numSteps === 0;
  }
  const maskAt = (card, step) => {
    const mask = card.masks[Math.min(step, card.masks.length) - 1];
    return mask === undefined ? "" : typeof mask === "number" ? card.masks[mask] : mask;
  };
  const showMask = (image, card, step) => {
    const source = step > 0 ? maskAt(card, step) : "";
    image.hidden = !source;
    if (source && image.getAttribute("src") !== source) image.src = source;
  };

  // cards

  let shown = [];
  const cardElement = (card) => {
    const refused = card.stage !== "";
    const element = make("button", refused ? "card out" : "card");
    element.type = "button";
    const picture = make("span", Math.max(...card.size) < 150 ? "pic small" : "pic");
    const image = make("img"), mask = make("img");
    image.src = card.image;
    image.alt = card.prompt || card.key;
    image.width = card.size[1];
    image.height = card.size[0];
    image.style.height = "auto";
    mask.alt = "";
    mask.className = "mask";
    picture.append(image, mask);
    const pictures = card.original ? make("span", "pair") : picture;
    if (card.original) {
      const before = make("span", picture.className), original = make("img");
      original.src = card.original;
      original.alt = "the original";
      before.append(original);
      pictures.append(before, picture);
    }
    const caption = make("span", "caption");
    const head = make("b", "", card.class_id >= 0 ? className(card.class_id) : card.shows.slice(0, 3).map(className).join(", "));
    if (refused) head.dataset.outcome = words(card.outcome);
    caption.append(head, make("span", "", card.prompt || card.key));
    element.append(pictures, caption);
    element.title = card.prompt;
    element.addEventListener("click", () => openLarge(card));
    element.card = card;
    element.mask = mask;
    return element;
  };
  const restep = () => {
    const step = Number(at("step").value), opacity = at("opacity").value / 100;
    at("step-name").textContent = stepNames[step];
    for (const element of document.querySelectorAll(".card")) {
      showMask(element.mask, element.card, step);
      element.mask.style.opacity = opacity;
    }
  };

  // filters

  for (const item of data.classes) {
    if (item.id !== data.background && data.cards.some((card) => card.class_id === item.id || card.shows.includes(item.id))) option(at("class"), String(item.id), item.name);
  }
  const outcomes = [...new Set(data.cards.map((card) => card.outcome))];
  for (const outcome of outcomes) option(at("outcome"), outcome, words(outcome));
  if (outcomes.length > 2) option(at("outcome"), "*", "all refused");
  const scores = data.scores.filter((score) => data.cards.some((card) => score.key in card.scores));
  for (const score of scores) option(at("score"), score.key, score.title);
  at("score").disabled = !scores.length;
  const limits = () => {
    const values = data.cards.map((card) => card.scores[at("score").value]).filter((value) => value !== undefined);
    return values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  };
  const bound = (id) => {
    const [low, high] = limits();
    return low + ((high - low) * at(id).value) / 1000;
  };
  const PAGE = 60;
  let pages = 1;
  const filter = () => {
    const chosen = at("class").value === "" ? null : Number(at("class").value);
    const domains = [...document.querySelectorAll("select.domain")].filter((select) => select.value).map((select) => [select.dataset.name, select.value]);
    const outcome = at("outcome").value, key = at("score").value;
    const least = bound("least"), most = bound("most");
    const narrowed = at("least").value > 0 || at("most").value < 1000;
    at("least-value").textContent = scores.length ? short(least) : "";
    at("most-value").textContent = scores.length ? short(most) : "";
    const sought = at("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = data.cards.filter((card) => {
      if (chosen !== null && card.class_id !== chosen && !(card.class_id < 0 && card.shows.includes(chosen))) return false;
      if (domains.some(([name, value]) => card.attributes[name] !== value)) return false;
      if (outcome === "*" ? card.stage === "" : outcome && card.outcome !== outcome) return false;
      const value = card.scores[key];
      if (narrowed && (value === undefined || value < least - 1e-9 || value > most + 1e-9)) return false;
      const prompt = card.prompt.toLowerCase();
      return sought.every((word) => prompt.includes(word));
    });
    const order = at("order").value;
    if (order !== "key") {
      const sign = order === "up" ? 1 : -1;
      const rank = (card) => (card.scores[key] === undefined ? Infinity : sign * card.scores[key]);
      shown.sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
    }
    pages = 1;
    draw();
  };
  const draw = () => {
    const part = shown.slice(0, pages * PAGE);
    at("cards").replaceChildren(...part.map(cardElement));
    at("matches").textContent = shown.length === data.cards.length ? "" : `${shown.length} match`;
    if (!shown.length) at("matches").textContent = data.cards.length ? "Nothing matches: clear a filter." : "There are no images yet.";
    at("more").hidden = part.length === shown.length;
    at("more").textContent = `show more (${shown.length - part.length} left)`;
    restep();
  };
  for (const id of ["step", "opacity"]) at(id).addEventListener("input", restep);
  at("size").addEventListener("input", () => at("cards").style.setProperty("--cell", `${at("size").value}px`));
  for (const select of document.querySelectorAll("#tools select")) select.addEventListener("input", filter);
  for (const id of ["least", "most", "words"]) at(id).addEventListener("input", filter);
  at("more").addEventListener("click", () => { pages += 1; draw(); });
  at("reset").addEventListener("click", () => {
    for (const select of document.querySelectorAll("#tools select")) select.selectedIndex = 0;
    at("least").value = 0;
    at("most").value = 1000;
    at("words").value = "";
    filter();
  });
  for (const box of document.querySelectorAll("[data-cards]")) box.append(...box.dataset.cards.split(" ").map((number) => cardElement(data.cards[number])));

  // one sample, large

  let current = null;
  const fact = (name, value) => {
    const row = make("div");
    row.append(make("dt", "", name), make("dd", "", value));
    return row;
  };
  const openLarge = (card) => {
    current = card;
    at("large-image").src = card.image;
    at("large-image").alt = card.prompt || card.key;
    at("large-original-pic").hidden = !card.original;
    at("large-original").src = card.original || "data:,";
    at("large-pic").classList.toggle("small", Math.max(...card.size) < 150);
    at("large-step").value = at("step").value;
    at("large-title").textContent = `${card.class_id >= 0 ? className(card.class_id) : "scene"}: ${words(card.outcome)}`;
    at("large-prompt").textContent = card.prompt;
    const rows = Object.entries(card.attributes).map(([name, value]) => fact(name, value));
    rows.push(fact("shows", card.shows.map(className).join(", ") || "nothing"), fact("key", card.key), fact("prompt key", card.prompt_key), fact("seed", card.seed));
    if (card.attempts > 1) rows.push(fact("attempts", card.attempts));
    if (card.detail) rows.push(fact("refused because", card.detail));
    if (card.shard) rows.push(fact("shard", `${card.shard} (${card.split})`));
    at("large-facts").replaceChildren(...rows);
    at("large-scores").replaceChildren(...data.scores.filter((score) => score.key in card.scores).map((score) => {
      const value = card.scores[score.key], row = make("tr");
      const bad = (score.least !== null && value < score.least) || (score.most !== null && value > score.most);
      const limit = [score.least === null ? "" : `at least ${short(score.least)}`, score.most === null ? "" : `at most ${short(score.most)}`].filter(Boolean).join(", ");
      row.append(make("td", "", score.title), make("td", bad ? "n bad" : "n", short(value)), make("td", "dim", limit));
      row.title = score.explained;
      return row;
    }));
    wipe();
    if (!at("large").open) at("large").showModal();
  };
  const wipe = () => {
    const step = Number(at("large-step").value);
    at("large-step-name").textContent = stepNames[step];
    showMask(at("large-mask"), current, step);
    at("large-mask").style.clipPath = `inset(0 ${100 - at("large-wipe").value}% 0 0)`;
  };
  const go = (by) => {
    const place = shown.indexOf(current);
    if (place >= 0) openLarge(shown[(place + by + shown.length) % shown.length]);
  };
  for (const id of ["large-step", "large-wipe"]) at(id).addEventListener("input", wipe);
  at("large-before").addEventListener("click", () => go(-1));
  at("large-after").addEventListener("click", () => go(1));
  at("large-close").addEventListener("click", () => at("large").close());
  at("large").addEventListener("click", (event) => { if (event.target === at("large")) at("large").close(); });
  at("large").addEventListener("keydown", (event) => {
    if (event.target.type === "range") return;
    if (event.key === "ArrowLeft") go(-1);
    if (event.key === "ArrowRight") go(1);
  });

  // prompt map

  const map = at("map");
  if (map && data.points.length) {
    const points = data.points.map(([x, y, prompt, name, attributes, near, similarity]) => ({
      x, y, prompt, name, near, similarity, attributes: Object.fromEntries(attributes.map((text) => text.split(/=(.*)/s).slice(0, 2))),
    }));
    const xs = points.map((point) => point.x), ys = points.map((point) => point.y);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const scale = Math.min(950 / (right - left || 1), 510 / (high - low || 1)); // one scale: distances stay comparable
    const px = (point) => 500 + (point.x - (left + right) / 2) * scale;
    const py = (point) => 280 - (point.y - (low + high) / 2) * scale;
    const draws = (tag, kind) => {
      const element = document.createElementNS(map.namespaceURI, tag);
      element.setAttribute("class", kind);
      return element;
    };
    const names = [...new Set(points.map((point) => point.name))];
    for (const name of names) option(at("map-class"), name, name || "no single class");
    for (const name of [...new Set(points.flatMap((point) => Object.keys(point.attributes)))].sort()) option(at("map-colour"), name);
    const colours = new Map(data.classes.map((item) => [item.name, rgb(item.colour)]));
    const radius = points.length > 800 ? 3.5 : 5.5;
    const ties = draws("g", ""), dots = draws("g", "");
    for (const point of points) {
      const dot = draws("circle", point.near < 0 ? "dot" : "ring");
      dot.setAttribute("cx", px(point).toFixed(1));
      dot.setAttribute("cy", py(point).toFixed(1));
      dot.setAttribute("r", point.near < 0 ? radius : radius + 1);
      dot.point = point;
      point.dot = dot;
      dots.append(dot);
      if (point.near >= 0) {
        const tie = draws("line", "tie"), target = points[point.near];
        tie.setAttribute("x1", px(point).toFixed(1));
        tie.setAttribute("y1", py(point).toFixed(1));
        tie.setAttribute("x2", px(target).toFixed(1));
        tie.setAttribute("y2", py(target).toFixed(1));
        point.tie = tie;
        ties.append(tie);
      }
    }
    map.append(ties, dots);
    const paint = () => {
      const by = at("map-colour").value, only = at("map-class").value, all = at("map-class").selectedIndex === 0;
      const values = [...new Set(points.filter((point) => point.near < 0).map((point) => (by ? point.attributes[by] : point.name) ?? "-"))].sort();
      const colour = (value) => (by ? `hsl(${(360 * values.indexOf(value)) / values.length} 65% 52%)` : colours.get(value) || "gray");
      for (const point of points) {
        const faded = !all && point.name !== only;
        if (point.near < 0) {
          point.dot.style.fill = colour((by ? point.attributes[by] : point.name) ?? "-");
          point.dot.setAttribute("class", faded ? "dot faded" : "dot");
        } else {
          const hidden = !at("map-refused").checked;
          point.dot.setAttribute("class", faded ? "ring faded" : "ring");
          point.tie.setAttribute("class", faded ? "tie faded" : "tie");
          point.dot.style.display = point.tie.style.display = hidden ? "none" : "";
        }
      }
      at("map-legend").replaceChildren(...values.map((value) => {
        const entry = make("span"), patch = make("span", "swatch");
        patch.style.background = colour(value);
        entry.append(patch, ` ${value || "no single class"}`);
        return entry;
      }));
    };
    for (const id of ["map-class", "map-colour", "map-refused"]) at(id).addEventListener("input", paint);
    let last = null;
    const tell = (best) => {
      if (best === last) return;
      if (last) last.dot.classList.remove("at");
      last = best;
      if (!best) return;
      best.dot.classList.add("at");
      const near = best.near < 0 ? "" : ` - refused: ${best.similarity} to "${points[best.near].prompt}"`;
      at("map-told").textContent = `${best.name ? `${best.name}: ` : ""}${best.prompt}${near}`;
    };
    const pointed = (event) => {
      const box = map.getBoundingClientRect(), unit = Math.max(1000 / box.width, 560 / box.height);
      const x = 500 + (event.clientX - box.left - box.width / 2) * unit, y = 280 + (event.clientY - box.top - box.height / 2) * unit;
      let best = null, least = 900;
      for (const point of points) {
        const distance = (px(point) - x) ** 2 + (py(point) - y) ** 2;
        if (distance < least) [best, least] = [point, distance];
      }
      tell(best);
    };
    for (const kind of ["pointermove", "pointerdown"]) map.addEventListener(kind, pointed);
    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    map.addEventListener("keydown", (event) => {
      const way = ways[event.key];
      if (!way) return;
      event.preventDefault();
      const x = last ? px(last) : 500, y = last ? py(last) : 280;
      let best = null, least = Infinity;
      for (const point of points) {
        if (point === last || point.dot.classList.contains("faded") || point.dot.style.display === "none") continue;
        const across = px(point) - x, down = py(point) - y;
        const ahead = across * way[0] + down * way[1], aside = Math.abs(across * way[1]) + Math.abs(down * way[0]);
        if (last && ahead <= 0) continue;
        if (Math.abs(ahead) + 2 * aside < least) [best, least] = [point, Math.abs(ahead) + 2 * aside];
      }
      if (best) tell(best);
    });
    paint();
  }

  filter();
  document.documentElement.dataset.ready = "yes";
})();
