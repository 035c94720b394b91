// What a reader would stumble over in the page that is open: a list of texts.
() => {
  const faults = [];

  // What reaches beyond the right side of the page, unless a box of its own scrolls.
  for (const own of document.querySelectorAll("body *")) {
    const beyond = own.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
    if (beyond && !own.closest(".scroll, nav ul, .row, .skip, thead")) faults.push("too wide: " + own.outerHTML.slice(0, 90));
  }

  // Letters of charts that are cut off at the border, or lie upon others.
  for (const svg of document.querySelectorAll(".chart svg")) {
    const all = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((own) => [own.textContent, own.getBoundingClientRect()]);
    texts.forEach(([text, a], place) => {
      if (a.left < all.left - 2 || a.right > all.right + 2 || a.top < all.top - 2 || a.bottom > all.bottom + 2)
        faults.push("cut off: " + text);
      for (const [other, b] of texts.slice(place + 1)) {
        const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (width > 2 && height > 4) faults.push(`${text} lies upon ${other}`);
      }
    });
  }

  // Letters whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3).
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([red, green, blue]) =>
    0.2126 * linear(red / 255) + 0.7152 * linear(green / 255) + 0.0722 * linear(blue / 255);
  const behind = (own) => {
    if (!own) return [255, 255, 255];
    const top = channels(getComputedStyle(own).backgroundColor);
    return top[3] === 255 ? top : behind(own.parentElement).map((value, i) => value + ((top[i] - value) * top[3]) / 255);
  };
  const written = "h1, h2, h3, h4, p, dt, dd, small, th, td, li, a, summary, label, legend, figcaption, pre, footer";
  for (const own of document.querySelectorAll(written)) {
    const [a, b] = [luminance(channels(getComputedStyle(own).color)), luminance(behind(own))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (own.getClientRects().length && contrast < 4.5)
      faults.push(`contrast ${contrast.toFixed(1)}: ${own.outerHTML.slice(0, 90)}`);
  }
  return faults;
}
