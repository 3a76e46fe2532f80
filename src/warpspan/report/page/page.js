"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const LINES = ["accent", "busy", "transfer", "sync", "request_wait", "launch", "between_steps", "soft"];
  const KINDS = {
    requests: "accent", inferences: "busy", steps: "between_steps", waits: "sync", device: "busy",
    kernels: "busy", copies: "transfer", idle: "other",
  };
  const FONT = "12px system-ui, sans-serif";
  const LANE = 22;

  const digits = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 99.95 ? String(Math.round(value)) : value.toFixed(size < 9.995 ? 2 : 1);
  };
  const seconds = (value) => {
    const size = Math.abs(value);
    if (value === 0) return "0";
    if (size >= 1) return `${digits(value)} s`;
    if (size >= 1e-3) return `${digits(value * 1e3)} ms`;
    return size >= 1e-6 ? `${digits(value * 1e6)} µs` : `${Math.round(value * 1e9)} ns`;
  };
  // Ticks need as many digits as tell them apart.
  const ticks = (values) => {
    const most = Math.max(...values.map(Math.abs));
    const step = values.length > 1 ? Math.abs(values[1] - values[0]) : most;
    const [scale, unit] = most >= 1 ? [1, "s"] : most >= 1e-3 ? [1e3, "ms"] : [1e6, "µs"];
    const places = Math.min(Math.max(0, -Math.floor(Math.log10(step * scale) + 1e-9)), 9);
    return values.map((value) => `${(value * scale).toFixed(places)} ${unit}`);
  };
  const bytes = (value) => {
    let scaled = value, unit = "B";
    for (const larger of ["KiB", "MiB", "GiB", "TiB"]) {
      if (Math.abs(scaled) < 999.5) break;
      scaled /= 1024;
      unit = larger;
    }
    return `${digits(scaled)} ${unit}`;
  };
  const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);
  const FORMS = { bytes, "%": (value) => `${digits(value)} %`, W: (value) => `${digits(value)} W` };

  const axis = (values, size, more = {}) => ({
    stroke: color("soft"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line"), width: 1 },
    font: FONT, values: (_, all) => values(all), size, ...more,
  });
  const each = (form) => (all) => all.map((value) => (value === null ? "" : form(value)));
  const legendValue = (form) => (_, value) => (value === null || value === undefined ? "–" : form(value));

  function distribution(place, one) {
    const named = [["duration", one.duration, "accent"], ["device time", one.device, "busy"]];
    const shown = named.filter(([, held]) => held && held.counts.length);
    if (!shown.length) return null;
    const xs = new Set();
    for (const [, held] of shown) held.edges.slice(0, -1).forEach((edge) => xs.add(edge));
    const x = [...xs].sort((a, b) => a - b);
    const columns = shown.map(([, held]) => {
      const counts = new Map(held.counts.map((count, at) => [held.edges[at], count]));
      return x.map((edge) => counts.get(edge) ?? null);
    });
    const last = Math.max(...shown.map(([, held]) => held.edges[held.edges.length - 1]));
    // Room for a tick or two where all values are alike.
    const room = Math.max(Math.sqrt(3 / (last / x[0])), 1);
    const from = x[0] / room, to = last * room;
    const drawn = shown.map(([, held]) => held);
    const bars = (number) => (plot) => {
      const { ctx, bbox } = plot, held = drawn[number];
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      ctx.globalAlpha = 0.65;
      ctx.fillStyle = color(shown[number][2]);
      const floor = bbox.top + bbox.height;
      held.counts.forEach((count, at) => {
        if (!count) return;
        const left = plot.valToPos(held.edges[at], "x", true);
        const right = plot.valToPos(held.edges[at + 1], "x", true);
        const top = plot.valToPos(count, "y", true);
        ctx.fillRect(left, top, Math.max(right - left - 1, 1), floor - top);
      });
      ctx.restore();
    };
    return new uPlot({
      width: place.clientWidth, height: 260,
      scales: {
        x: { time: false, distr: 3, range: [from, to] },
        y: { range: (_, __, high) => [0, Math.max(high * 1.05, 1)] },
      },
      axes: [
        axis(each(seconds), 36, { space: 60, filter: (plot, all) => decades(all, from, to) }),
        axis(each((value) => (Number.isInteger(value) ? String(value) : "")), 50),
      ],
      series: [
        { label: "from", value: legendValue(seconds) },
        ...shown.map(([label, , name]) => ({
          label, stroke: color(name), paths: () => null, points: { show: false }, value: legendValue(String),
        })),
      ],
      hooks: { draw: drawn.map((_, number) => bars(number)) },
      cursor: { drag: { x: true, y: false } },
    }, [x, ...columns], place);
  }

  // A narrow logarithmic axis has no power of ten in it: then 1, 2 and 5 of each are shown.
  function decades(all, low, high) {
    const wide = Math.log10(high / low) > 3;
    return all.map((value) => {
      if (value === null) return null;
      const lead = Math.round(value / 10 ** Math.floor(Math.log10(value) + 1e-9));
      return (wide ? lead === 1 : [1, 2, 5].includes(lead)) ? value : null;
    });
  }

  function overTime(place, one) {
    const axes = [...new Set(one.lines.map((line) => line.axis))];
    return new uPlot({
      width: place.clientWidth, height: 260,
      scales: {
        x: { time: false },
        ...Object.fromEntries(axes.map((name) => [
          name, { range: (_, __, high) => [0, name === "%" ? 100 : Math.max(high * 1.05, 1)] },
        ])),
      },
      axes: [
        axis(ticks, 36),
        ...axes.map((name, at) => axis(each(FORMS[name]), 76, {
          scale: name, side: at ? 1 : 3, grid: { show: !at, stroke: color("line"), width: 1 },
          ...(name === "bytes" ? { incrs: POWERS } : {}),
        })),
      ],
      series: [
        { label: "time", value: legendValue(seconds) },
        ...one.lines.map((line, at) => ({
          label: line.name, scale: line.axis, stroke: color(LINES[at % LINES.length]), width: 2, spanGaps: true,
          dash: line.axis === "W" ? [6, 4] : undefined, points: { show: one.x.length < 60, size: 5 },
          value: legendValue(FORMS[line.axis]),
        })),
      ],
    }, [one.x, ...one.lines.map((line) => line.values)], place);
  }

  function batch(place, one) {
    const sizes = one.points.map((point) => point[0]);
    const fitted = one.line && sizes.map((size) => one.line[0] + one.line[1] * size);
    const whiskers = (plot) => {
      const { ctx } = plot;
      ctx.save();
      ctx.strokeStyle = color("soft");
      ctx.lineWidth = devicePixelRatio;
      for (const [size, , , low, high] of one.points) {
        const at = plot.valToPos(size, "x", true);
        ctx.beginPath();
        ctx.moveTo(at, plot.valToPos(low, "y", true));
        ctx.lineTo(at, plot.valToPos(high, "y", true));
        ctx.stroke();
      }
      ctx.restore();
    };
    const top = Math.max(...one.points.map((point) => point[4]));
    const last = sizes[sizes.length - 1];
    return new uPlot({
      width: place.clientWidth, height: 260,
      scales: { x: { time: false, range: [0, last * 1.05] }, y: { range: [0, top * 1.05] } },
      axes: [axis(each((value) => (Number.isInteger(value) ? value.toLocaleString("en") : "")), 36),
        axis(each(seconds), 66)],
      series: [
        { label: one.unit, value: legendValue(String) },
        { label: "median", stroke: color("accent"), paths: () => null, points: { show: true, size: 9,
          fill: color("accent") }, value: legendValue(seconds) },
        { label: "line", stroke: color("busy"), width: 2, points: { show: false }, value: legendValue(seconds) },
        { label: "inferences", stroke: color("soft"), scale: "none", paths: () => null, points: { show: false },
          value: legendValue(String) },
      ],
      hooks: { draw: [whiskers] },
    }, [sizes, one.points.map((point) => point[2]), fitted || sizes.map(() => null),
      one.points.map((point) => point[1])], place);
  }

  function timeline(place, one) {
    const begin = one.from_us / 1e6, end = Math.max(one.elapsed_us / 1e6, begin + 1e-9);
    const narrow = place.clientWidth < 600;
    const margin = narrow ? 92 : 150;
    const lanes = [];
    let group = null;
    for (const lane of one.lanes) {
      if (lane.group !== group) lanes.push({ heading: lane.group });
      group = lane.group;
      lanes.push(lane);
    }
    const readout = place.parentElement.querySelector(".readout");

    // First slice of a lane that ends after a time; lanes are sorted and nothing overlaps in them.
    const firstAfter = (slices, us) => {
      let low = 0, high = slices.length / 3;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (slices[3 * middle] + slices[3 * middle + 1] < us) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    const short = (ctx, text, width) => {
      if (ctx.measureText(text).width <= width) return text;
      let held = text;
      while (held && ctx.measureText(`${held}…`).width > width) held = held.slice(0, -1);
      return held ? `${held}…` : "";
    };
    const draw = (plot) => {
      const { ctx, bbox } = plot, ratio = devicePixelRatio, height = LANE * ratio;
      const { min, max } = plot.scales.x;
      ctx.save();
      ctx.font = `${12 * ratio}px system-ui, sans-serif`;
      ctx.textBaseline = "middle";
      lanes.forEach((lane, row) => {
        const top = bbox.top + row * height, middle = top + height / 2;
        ctx.textAlign = "left";
        ctx.fillStyle = color(lane.heading === undefined ? "soft" : "ink");
        const left = 4 * ratio;
        if (lane.heading !== undefined) {
          ctx.fillText(short(ctx, lane.heading, bbox.left + bbox.width - left), left, middle);
          return;
        }
        ctx.fillText(short(ctx, lane.name, bbox.left - 2 * left), left + 8 * ratio, middle);
        const { slices } = lane, edge = bbox.left + bbox.width;
        let drawnTo = -1;
        for (let at = firstAfter(slices, min * 1e6); at < slices.length / 3; at++) {
          const start = slices[3 * at] / 1e6, stop = start + slices[3 * at + 1] / 1e6;
          if (start > max) break;
          const from = Math.max(plot.valToPos(start, "x", true), bbox.left);
          const to = Math.min(plot.valToPos(stop, "x", true), edge);
          const wide = Math.max(to - from, ratio);
          if (from + wide <= drawnTo) continue;
          drawnTo = from + wide;
          const name = one.names[slices[3 * at + 2]];
          const reason = lane.kind === "idle" ? name.replace("idle: ", "").replaceAll(" ", "_") : "";
          ctx.fillStyle = color(reason || KINDS[lane.kind]) || color("other");
          ctx.fillRect(from, top + 2 * ratio, wide, height - 4 * ratio);
          if (wide > 60 * ratio) {
            ctx.fillStyle = color(reason === "no_demand" ? "ink" : "card");
            ctx.fillText(short(ctx, name, wide - 8 * ratio), from + 4 * ratio, middle);
          }
        }
      });
      ctx.restore();
    };
    const show = (plot) => {
      const { left, top } = plot.cursor;
      const lane = lanes[Math.floor(top / LANE)];
      if (left < 0 || !lane || lane.heading !== undefined) {
        readout.textContent = "";
        return;
      }
      const us = plot.posToVal(left, "x") * 1e6;
      const slack = (plot.scales.x.max - plot.scales.x.min) * 1e6 / Math.max(plot.over.clientWidth, 1);
      const at = firstAfter(lane.slices, us - slack);
      const [start, length, name] = lane.slices.slice(3 * at, 3 * at + 3);
      if (start === undefined || start > us + slack) {
        readout.textContent = "";
        return;
      }
      readout.textContent =
        `${lane.name}: ${one.names[name]}, ${seconds(length / 1e6)} at ${seconds(start / 1e6)}`;
    };
    const plot = new uPlot({
      width: place.clientWidth - 22, height: lanes.length * LANE + 40,
      legend: { show: false },
      padding: [0, 8, 0, 0],
      scales: { x: { time: false, min: begin, max: end }, y: { range: [0, 1] } },
      axes: [axis(ticks, 36, { space: narrow ? 70 : 90 }), { show: true, size: margin, values: () => [],
        grid: { show: false }, ticks: { show: false } }],
      series: [{}, { paths: () => null, points: { show: false } }],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
      hooks: { draw: [draw], setCursor: [show] },
    }, [[begin, end], [0, 0]], place);

    const zoom = (action) => {
      const { min, max } = plot.scales.x, length = max - min;
      const set = (from, to) => {
        const wide = Math.min(Math.max(to - from, 1e-7), end - begin);
        const start = Math.min(Math.max(from, begin), end - wide);
        plot.setScale("x", { min: start, max: start + wide });
        readout.textContent = `${seconds(start)} to ${seconds(start + wide)}`;
      };
      ({
        in: () => set(min + length / 4, max - length / 4), out: () => set(min - length / 2, max + length / 2),
        left: () => set(min - length / 4, max - length / 4), right: () => set(min + length / 4, max + length / 4),
        all: () => set(begin, end),
      })[action]();
    };
    for (const button of document.querySelectorAll("button[data-zoom]")) {
      button.onclick = () => zoom(button.dataset.zoom);
    }
    const keys = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", Home: "all" };
    place.onkeydown = (event) => {
      const action = keys[event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      zoom(action);
    };
    return plot;
  }

  const DRAW = {
    distribution: [distribution, data.distributions], "over-time": [overTime, data.overTime],
    batch: [batch, data.batches], timeline: [timeline, [data.timeline]],
  };
  let drawn = [];
  function render() {
    for (const plot of drawn) plot.destroy();
    drawn = [];
    for (const place of document.querySelectorAll(".plot")) {
      const [draw, held] = DRAW[place.dataset.kind];
      const plot = draw(place, held[Number(place.dataset.index)]);
      if (plot) drawn.push(plot);
    }
    document.documentElement.dataset.charts = String(drawn.length);
  }
  render();
  let width = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(render, 150);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
})();
