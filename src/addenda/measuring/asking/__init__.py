"""What is asked of a model: texts, chats, questions, facts, edits, with modules off and on."""
