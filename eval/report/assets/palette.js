// Okabe–Ito hues: distinguishable with the common forms of colour blindness. Lines also differ in width and dash.

const themes = {
  light: {
    ground: "#e9ebee", road: "#ffffff", edge: "#b4bac4", lane: "#c3c9d2", divider: "#9aa3b0", crossing: "#d5dae1", stop: "#7b8494",
    route: "rgba(0,114,178,0.10)", text: "#1c2430", muted: "#667085", grid: "#e4e7ec", halo: "#ffffff",
    ego: "#0072b2", plan: "#0072b2", tail: "#d55e00", solved: "#009e73", unsolved: "#98a2b3", rejected: "#d55e00",
    mode: "#cc79a7", expert: "#475467", compare: "#e69f00", alarm: "#d55e00", limit: "#d55e00", seen: "#101828", missed: "#d55e00",
    classes: ["#6b88a8", "#8a6ba8", "#8a6ba8", "#00896a", "#00896a", "#d98a00", "#8b95a5"],
    sources: { candidate: "#009e73", tail: "#e69f00", braking: "#d55e00", baseline: "#98a2b3", replay: "#98a2b3" },
    series: ["#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7"],
    duals: ["#f6c667", "#f08a3c", "#d8453a", "#9b2064", "#4b0c6b"],
  },
  dark: {
    ground: "#12161c", road: "#1f2630", edge: "#475364", lane: "#364152", divider: "#5b6b80", crossing: "#2f3947", stop: "#8795a8",
    route: "rgba(86,180,233,0.13)", text: "#e6eaf0", muted: "#98a4b5", grid: "#29313c", halo: "#12161c",
    ego: "#56b4e9", plan: "#56b4e9", tail: "#ff8c42", solved: "#2fcf9f", unsolved: "#667587", rejected: "#ff8c42",
    mode: "#e39cc4", expert: "#c3ccd8", compare: "#f0b429", alarm: "#ff7a3d", limit: "#ff8c42", seen: "#f5f7fa", missed: "#ff7a3d",
    classes: ["#8fb0d3", "#b795d6", "#b795d6", "#35c79c", "#35c79c", "#f0b429", "#8795a8"],
    sources: { candidate: "#2fcf9f", tail: "#f0b429", braking: "#ff7a3d", baseline: "#667587", replay: "#667587" },
    series: ["#56b4e9", "#ff8c42", "#2fcf9f", "#f0b429", "#e39cc4"],
    duals: ["#6a2c91", "#b0307a", "#e5534b", "#f9a03f", "#fff07a"],
  },
};

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function themeName() {
  return document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light");
}

function colours() {
  return themes[themeName()];
}

// 0..1 -> colour of the scale for prices of constraints
function dualColour(fraction, list = colours().duals) {
  const at = Math.min(Math.max(fraction, 0), 1) * (list.length - 1);
  const low = Math.min(Math.floor(at), list.length - 2);
  const mix = (i) => Math.round(channel(list[low], i) * (1 - at + low) + channel(list[low + 1], i) * (at - low));
  return `rgb(${mix(0)},${mix(1)},${mix(2)})`;
}

function channel(hex, i) {
  return parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
}
