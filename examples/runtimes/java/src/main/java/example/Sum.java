package example;

import com.amazonaws.services.lambda.runtime.Context;
import java.util.List;
import java.util.Map;

/** A function in Java; README.md says how it is built and run. */
public class Sum {
  /** Adds the numbers of a task. */
  public Map<String, Object> handle(Map<String, List<Integer>> event, Context context) {
    int sum = event.get("numbers").stream().mapToInt(Integer::intValue).sum();
    return Map.of("sum", sum, "by", "java");
  }
}
