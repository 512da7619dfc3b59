"""The engine llama-cpp-python's inside: continuous batching on llama.cpp's low-level functions, and llama.cpp's wire.

`native` → `sampling`, `slots` → `scheduler` is the engine's thread; `patterns`, `schema_merging` → `schema_values` →
`schemas` → `grammar` and `template`, `messages`, `fields` → `requests` read what is asked, `speech` → `answers` →
`delivery` tells what is written. Nothing here is imported outside the model's own process, and the binding itself only by `gateway/worker/llama_cpp_python_engine.py` and inside functions.
"""
