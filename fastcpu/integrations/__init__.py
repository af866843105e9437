"""Drop-ins: the interfaces of other libraries over compressed models.

``fastcpu.integrations.transformers`` has auto classes whose models run in pipelines of transformers;
``fastcpu.integrations.sentence_transformers`` has SentenceTransformer and CrossEncoder and needs neither
sentence-transformers nor torch.
"""
