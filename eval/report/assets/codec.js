// Inverse of eval/report/pack.py.

const decoded = new Map();

function blob(index) {
  if (!decoded.has(index)) {
    decoded.set(index, unpack(document.getElementById(`blob-${index}`).textContent));
  }
  return decoded.get(index);
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const header = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  return JSON.parse(header, (_, value) =>
    value !== null && typeof value === "object" && "@" in value ? numbers(buffer, 4 + length, value["@"]) : value);
}

function numbers(buffer, start, [offset, rows, columns, type, step]) {
  if (type === "f4") return new Float32Array(buffer, start + offset, rows * columns);
  const Kind = type === "i2" ? Int16Array : Int32Array;
  const steps = new Kind(buffer, start + offset, rows * columns);
  const result = new Float64Array(rows * columns);
  for (let column = 0; column < columns; column++) {
    let sum = 0;
    for (let row = 0; row < rows; row++) {
      sum += steps[column * rows + row];
      result[row * columns + column] = sum * step;
    }
  }
  return result;
}

// [0, n0, n0 + n1, ...]: where each entry's part begins in a flat column
function starts(counts) {
  const result = new Uint32Array(counts.length + 1);
  for (let i = 0; i < counts.length; i++) result[i + 1] = result[i] + counts[i];
  return result;
}
