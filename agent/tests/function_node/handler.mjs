// A function that behaves as each task tells it to.
export async function handler(event, context) {
  switch (event.do) {
    case "echo":
      return event.value;
    case "raise":
      throw new RangeError(event.message);
    case "exit":
      process.exit(3);
    case "hang":
      return new Promise(() => setInterval(() => {}, 1000));
    case "facts":
      return {
        name: context.functionName,
        version: context.functionVersion,
        memory: context.memoryLimitInMB,
        requestId: context.awsRequestId,
        arn: context.invokedFunctionArn,
        remaining: context.getRemainingTimeInMillis(),
        custom: context.clientContext.custom,
      };
  }
}
