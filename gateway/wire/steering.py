"""Names that no request may have at its top: where they mean anything, they steer the call instead of being its content.

The lanes pass on fields for a fixed URL and key, so none of these would be obeyed; refusing them tells an attacker, and
whoever moves here from another gateway, that they are not. A name with a meaning of its own in OpenAI's requests
(`metadata`) or at a server that speaks them (`ttl` at LM Studio), or with none that steers (`id`), is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.errors import InvalidRequest

# Where a call goes, and as whom; and where what it says is copied to.
_WHERE = """
    anthropic_disable_workload_identity_federation anthropic_federation_rule_id anthropic_federation_workspace_id
    anthropic_identity_source anthropic_identity_token anthropic_identity_token_file anthropic_issuer_audience
    anthropic_issuer_signing_key_ref anthropic_issuer_subject anthropic_issuer_ttl_seconds anthropic_issuer_url
    anthropic_keycloak_auth_method anthropic_keycloak_client_id anthropic_keycloak_client_secret_ref
    anthropic_keycloak_scope anthropic_keycloak_token_url anthropic_organization_id anthropic_service_account_id
    api_base api_key api_type api_version arize_api_key arize_error_sampling_rate arize_otlp_protocol arize_space_id
    arize_space_key arize_success_sampling_rate aws_access_key_id aws_batch_role_arn aws_bedrock_project_id
    aws_bedrock_runtime_endpoint aws_external_id aws_profile_name aws_region_name aws_role_name aws_secret_access_key
    aws_session_name aws_session_tags aws_session_token aws_sts_endpoint aws_web_identity_token azure_ad_token
    azure_ad_token_provider azure_endpoint azure_password azure_scope azure_username base_url bucket_name client_id
    client_secret dd_agent_host dd_agent_port dd_api_key dd_site gcs_bucket_name gcs_path_service_account
    humanloop_api_key langfuse_environment langfuse_host langfuse_prompt_version langfuse_public_key langfuse_secret
    langfuse_secret_key langfuse_span_scope langsmith_api_key langsmith_base_url langsmith_project
    langsmith_sampling_rate langsmith_tenant_id milvus_db_name milvus_partition_names milvus_text_field
    newrelic_api_key newrelic_region openai_identity_provider_id openai_identity_token_file openai_service_account_id
    organization posthog_api_key posthog_api_url region_name s3_access_key_id s3_bucket_name s3_bucket_owner
    s3_encryption_key_id s3_endpoint_url s3_output_bucket_name s3_region_name s3_secret_access_key
    signoz_ingestion_endpoint signoz_ingestion_key tenant_id valkey_embedding_field valkey_host valkey_password
    valkey_port valkey_ssl valkey_text_field vertex_ai_credentials vertex_ai_location vertex_ai_project
    vertex_credentials vertex_location vertex_project wandb_api_key watsonx_region_name weave_project_id
"""
# What a call is booked as.
_PRICES = """
    annotation_cost_per_page annotation_cost_per_page_batches cache_creation_input_audio_token_cost
    cache_creation_input_token_cost cache_creation_input_token_cost_above_100k_tokens
    cache_creation_input_token_cost_above_100k_tokens_batches cache_creation_input_token_cost_above_1hr
    cache_creation_input_token_cost_above_1hr_above_100k_tokens cache_creation_input_token_cost_above_200k_tokens
    cache_creation_input_token_cost_above_200k_tokens_batches cache_creation_input_token_cost_above_272k_tokens
    cache_creation_input_token_cost_above_272k_tokens_batches cache_creation_input_token_cost_above_272k_tokens_flex
    cache_creation_input_token_cost_above_272k_tokens_priority
    cache_creation_input_token_cost_above_272k_tokens_ultrafast cache_creation_input_token_cost_batches
    cache_creation_input_token_cost_flex cache_creation_input_token_cost_priority
    cache_creation_input_token_cost_ultrafast cache_read_input_audio_token_cost cache_read_input_image_token_cost
    cache_read_input_token_cost cache_read_input_token_cost_above_100k_tokens
    cache_read_input_token_cost_above_100k_tokens_batches cache_read_input_token_cost_above_200k_tokens
    cache_read_input_token_cost_above_200k_tokens_batches cache_read_input_token_cost_above_200k_tokens_priority
    cache_read_input_token_cost_above_272k_tokens cache_read_input_token_cost_above_272k_tokens_batches
    cache_read_input_token_cost_above_272k_tokens_flex cache_read_input_token_cost_above_272k_tokens_priority
    cache_read_input_token_cost_above_272k_tokens_ultrafast cache_read_input_token_cost_above_512k_tokens
    cache_read_input_token_cost_balanced cache_read_input_token_cost_batches cache_read_input_token_cost_flex
    cache_read_input_token_cost_priority cache_read_input_token_cost_ultrafast citation_cost_per_token cost_per_query
    cost_per_second google_maps_grounding_cost_per_query input_cost_per_audio_per_second
    input_cost_per_audio_per_second_above_128k_tokens input_cost_per_audio_token input_cost_per_audio_token_batches
    input_cost_per_character input_cost_per_character_above_128k_tokens input_cost_per_image
    input_cost_per_image_above_128k_tokens input_cost_per_image_token input_cost_per_image_token_batches
    input_cost_per_pixel input_cost_per_query input_cost_per_second input_cost_per_token
    input_cost_per_token_above_100k_tokens input_cost_per_token_above_100k_tokens_batches
    input_cost_per_token_above_128k_tokens input_cost_per_token_above_200k_tokens
    input_cost_per_token_above_200k_tokens_batches input_cost_per_token_above_200k_tokens_priority
    input_cost_per_token_above_272k_tokens input_cost_per_token_above_272k_tokens_batches
    input_cost_per_token_above_272k_tokens_flex input_cost_per_token_above_272k_tokens_priority
    input_cost_per_token_above_272k_tokens_ultrafast input_cost_per_token_above_512k_tokens
    input_cost_per_token_balanced input_cost_per_token_batches input_cost_per_token_cache_hit
    input_cost_per_token_flex input_cost_per_token_priority input_cost_per_token_ultrafast
    input_cost_per_video_per_second input_cost_per_video_per_second_above_128k_tokens
    input_cost_per_video_per_second_above_15s_interval input_cost_per_video_per_second_above_8s_interval
    input_cost_per_video_token input_cost_per_video_token_batches ocr_cost_per_credit ocr_cost_per_page
    ocr_cost_per_page_batches output_cost_per_audio_per_second output_cost_per_audio_token output_cost_per_character
    output_cost_per_character_above_128k_tokens output_cost_per_image output_cost_per_image_1024
    output_cost_per_image_1536 output_cost_per_image_512 output_cost_per_image_token
    output_cost_per_image_token_batches output_cost_per_pixel output_cost_per_reasoning_token
    output_cost_per_reasoning_token_flex output_cost_per_reasoning_token_priority output_cost_per_second
    output_cost_per_second_1080p output_cost_per_second_2k output_cost_per_second_480p output_cost_per_second_4k
    output_cost_per_second_720p output_cost_per_second_768p output_cost_per_token
    output_cost_per_token_above_100k_tokens output_cost_per_token_above_100k_tokens_batches
    output_cost_per_token_above_128k_tokens output_cost_per_token_above_200k_tokens
    output_cost_per_token_above_200k_tokens_batches output_cost_per_token_above_200k_tokens_priority
    output_cost_per_token_above_272k_tokens output_cost_per_token_above_272k_tokens_batches
    output_cost_per_token_above_272k_tokens_flex output_cost_per_token_above_272k_tokens_priority
    output_cost_per_token_above_272k_tokens_ultrafast output_cost_per_token_above_512k_tokens
    output_cost_per_token_balanced output_cost_per_token_batches output_cost_per_token_flex
    output_cost_per_token_priority output_cost_per_token_ultrafast output_cost_per_video_per_second
    output_cost_per_video_token regional_endpoint_uplift_multiplier regional_processing_uplift_multiplier_eu
    regional_processing_uplift_multiplier_us search_context_cost_per_query tiered_pricing
"""
# How often it is tried, what stands in for it, what happens on the way.
_HOW = """
    acompletion adaptive_router_config adaptive_router_default_model additional_drop_params aembedding
    aimage_generation aimg_generation allm_passthrough_route allow_client_keepalive_override allowed_model_region
    allowed_openai_params assistant_continue_message async_call atext_completion attempted_targets auto_router_config
    auto_router_config_path auto_router_default_model auto_router_embedding_model auto_router_max_input_chars
    auto_router_model_compression auto_router_routing_compression azure base_model bedrock_tags bos_token
    budget_duration cache cache_key caching caching_groups callbacks client client_side_timeout complete_response
    completion_call_id complexity_router_config complexity_router_default_model configurable_clientside_auth_params
    content_policy_fallbacks context_window_fallback_dict context_window_fallbacks cooldown_time custom_llm_provider
    custom_prompt_dict data_residency default_api_key_rpm_limit default_api_key_tpm_limit default_fallbacks
    deployment_id disable_add_transform_inline_image_block drop_params enable_json_schema_validation
    enable_prompt_caching enable_tag_filtering ensure_alternating_roles eos_token extra_body extra_headers extra_query
    failure_callback fallback_depth fallbacks fastest_response final_prompt_value fireworks_forward_user_id
    force_timeout guardrails headers hf_model_name http_client initial_prompt_value input_callback itpm
    keepalive_seconds litellm_call_id litellm_credential_name litellm_disabled_callbacks litellm_logging_obj
    litellm_metadata litellm_params litellm_request_debug litellm_session_id litellm_system_prompt litellm_trace_id
    litellm_trusted_callback_vars log_client_error_tracebacks logger_fn max_agentic_loops max_budget max_fallbacks
    max_file_size_mb max_parallel_requests max_retries merge_reasoning_content_in_choices mock_response mock_timeout
    mock_tool_calls model_alias_map model_config model_file_id_mapping model_info model_list no-log no_log num_retries
    order otpm output_vector_size preset_cache_key prompt_environment prompt_id prompt_label prompt_variables
    prompt_version provider_affinity_header provider_specific_header proxies proxy proxy_server_request
    quality_router_config quality_router_default_model request_timeout retry_policy retry_strategy roles
    routing_strategy rpm rust search_tool_name secret_fields self service_callback shared_session silent_model
    ssl_certificate ssl_verify stream_chunk_size stream_response stream_timeout stream_timeout_by_service_tier
    success_callback supports_system_message tag_regex tags text_completion timeout timeout_by_service_tier tpm
    turn_off_message_logging use_chat_completions_api use_client use_in_pass_through use_litellm_proxy use_xai_oauth
    user_config user_continue_message vector_store_id verbose weight
"""
# What another gateway keeps between its own steps.
_WITHIN = """
    _agentic_loop_api_surface _agentic_loop_depth _agentic_loop_fingerprints _code_interpreter_interception_active
    _code_interpreter_interception_converted_stream _code_interpreter_interception_sandbox_key
    _code_interpreter_interception_session_scoped _context_compaction_state _headroom_interception_converted_stream
    _litellm_addressed_response_id _litellm_strip_stream_usage _router_weights
    _websearch_interception_converted_stream _websearch_interception_emit_native_blocks
"""
STEERING = frozenset(f"{_WHERE} {_PRICES} {_HOW} {_WITHIN}".split())


def refuse_steering(names: Iterable[str]) -> None:
    """Raise InvalidRequest (`unknown_parameter`) where one of the names at the top of a request steers calls."""
    name = next((name for name in names if name in STEERING), None)
    if name is None:
        return
    raise InvalidRequest(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
