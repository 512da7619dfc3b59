# Included after project(): a normal variable shadows the cache entry that llama-cpp-python's CMakeLists forces ON.
# What it leaves out is not loaded by Python and is more than half of the work.
set(LLAMA_BUILD_COMMON OFF)
