// Streams its result in pieces, and fails in the middle if told so.
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.write('{"a": [1,');
  if (event.fail) {
    throw new RangeError("the source ran dry");
  }
  stream.write(" 2]}");
  stream.end();
});
