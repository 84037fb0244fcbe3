// A function in Node.js: `htcgrid local up --function examples/runtimes/nodejs --runtime nodejs --handler handler.handler`.
export async function handler(event) {
  return { sum: event.numbers.reduce((sum, number) => sum + number, 0), by: "nodejs" };
}
